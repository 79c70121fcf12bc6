"""The second factor over its whole life: enrolled, confirmed, used, replaced and disabled."""

import base64
import time
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.access.recovery_code import RecoveryCode
from models.identity.audit_event import AuditEvent
from models.identity.user import User
from models.storage.base import Base
from tests.api.accounts import bearer, fresh_address, key_for, token_for
from tests.api.answers import problem
from tests.api.authenticators import (
    SECOND_FACTOR,
    SecondFactorClock,
    begin,
    challenge,
    complete,
    confirm,
    disable,
    enrol,
    enrolled,
    replace_codes,
    state,
)
from tests.factories import make_account
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M12"), pytest.mark.mission("M13")]

NEVER = {"active": False, "confirmed_at": None, "recovery_codes_left": 0}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SecondFactorClock:
    return SecondFactorClock(monkeypatch)


def events(service: Service, user: User) -> list[tuple[str, bool]]:
    """What was written down about an account's second factor."""
    query = select(AuditEvent.action, AuditEvent.succeeded).where(
        AuditEvent.user_id == user.id, AuditEvent.action.like("%second-factor%")
    )

    def read(session: Session) -> list[tuple[str, bool]]:
        rows = session.execute(query.order_by(AuditEvent.id))
        return [(action, succeeded) for action, succeeded in rows]

    return service.app.database.transact(read, write=False)


def lives(client: httpx.Client, token: str) -> bool:
    return client.get("/v1/profile", headers=bearer(token)).status_code == 200


def test_a_second_factor_over_its_lifetime(service: Service, client: httpx.Client) -> None:
    user, token, app = begin(service, client)
    assert state(client, token) == NEVER
    signed_in = client.post(
        "/v1/auth/token",
        json={"email": user.email, "password": PASSWORD},
        headers=fresh_address(),
    )
    assert signed_in.status_code == 200, "an app that was not confirmed changes nothing"

    confirmed = confirm(client, token, app.code(steps=-1))
    assert confirmed.status_code == 200, confirmed.text
    assert confirmed.headers["cache-control"] == "no-store"
    codes = confirmed.json()["recovery_codes"]
    active = state(client, token)
    assert (active["active"], active["recovery_codes_left"]) == (True, 10)

    done = complete(client, challenge(client, user), app.code())
    assert done.status_code == 200, done.text
    done = complete(client, challenge(client, user), codes[0])
    assert done.status_code == 200, done.text
    assert state(client, done.json()["access_token"])["recovery_codes_left"] == 9

    replaced = replace_codes(client, token, app.code(steps=1))
    assert replaced.status_code == 200, replaced.text
    new_codes = replaced.json()["recovery_codes"]
    assert not set(new_codes) & set(codes)
    assert complete(client, challenge(client, user), codes[1]).status_code == 403

    assert disable(client, token, new_codes[0]).status_code == 204
    assert state(client, token) == NEVER
    again = client.post(
        "/v1/auth/token",
        json={"email": user.email, "password": PASSWORD},
        headers=fresh_address(),
    )
    assert again.status_code == 200
    assert events(service, user) == [
        ("second-factor.enrol", True),
        ("second-factor.confirm", True),
        ("sign-in.second-factor", True),
        ("sign-in.second-factor", True),
        ("second-factor.recovery-codes", True),
        ("sign-in.second-factor", False),
        ("second-factor.disable", True),
    ]


def test_every_change_except_confirming_requires_the_password(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    token = token_for(service, user)
    assert problem(enrol(client, token, "wrong")) == "wrong-password"
    app = enrolled(service, user)
    for answer in (
        replace_codes(client, token, app.code(), "wrong"),
        disable(client, token, app.code(), "wrong"),
    ):
        assert answer.status_code == 403
        assert problem(answer) == "wrong-password"
    assert disable(client, token, app.code()).status_code == 204, "the code was not used up"


@pytest.mark.parametrize("change", [replace_codes, disable])
def test_the_password_alone_is_not_enough_for_a_change(
    service: Service, client: httpx.Client, change: Callable[..., httpx.Response]
) -> None:
    user = make_account(service)
    token, app = token_for(service, user), enrolled(service, user)
    answer = change(client, token, app.wrong_code())
    assert answer.status_code == 403
    assert problem(answer) == "wrong-code"
    assert state(client, token)["recovery_codes_left"] == 10
    assert [succeeded for _, succeeded in events(service, user)] == [False]


def test_confirming_ends_all_other_tokens(service: Service, client: httpx.Client) -> None:
    user, token, app = begin(service, client)
    others = [token_for(service, user), key_for(service, user, "profile:read")[1]]
    assert all(lives(client, other) for other in others)
    assert confirm(client, token, app.code()).status_code == 200
    assert_ended(client, others)
    assert lives(client, token)


def test_disabling_ends_all_other_tokens(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    token, app = token_for(service, user), enrolled(service, user)
    others = [token_for(service, user), key_for(service, user, "profile:read")[1]]
    assert all(lives(client, other) for other in others)
    assert disable(client, token, app.code()).status_code == 204
    assert_ended(client, others)
    assert lives(client, token)


def assert_ended(client: httpx.Client, tokens: list[str]) -> None:
    """Insist that none of them lets anybody in a second from now."""
    time.sleep(0.6)
    assert not any(lives(client, token) for token in tokens)


def test_a_changed_second_factor_ends_pending_sign_ins(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    token, app = token_for(service, user), enrolled(service, user)
    waiting = challenge(client, user)
    assert disable(client, token, app.code(steps=-1)).status_code == 204
    assert problem(complete(client, waiting, app.code())) == "invalid-challenge"


def test_a_key_cannot_change_sign_in_methods(service: Service, client: httpx.Client) -> None:
    key = key_for(service, make_account(service), "security:read", "profile:write")[1]
    assert state(client, key) == NEVER
    assert problem(enrol(client, key)) == "not-permitted"
    assert problem(confirm(client, key, "123456")) == "not-permitted"


def test_accounts_have_separate_second_factors(service: Service, client: httpx.Client) -> None:
    user, other = make_account(service), make_account(service)
    app = enrolled(service, user)
    assert state(client, token_for(service, other)) == NEVER
    other_app = enrolled(service, other)
    waiting = challenge(client, other)
    for code in (app.code(), app.recovery_codes[0]):
        assert problem(complete(client, waiting, code)) == "wrong-code"
    assert complete(client, waiting, other_app.code()).status_code == 200


def test_an_erased_account_leaves_no_second_factor(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    enrolled(service, user)
    token = token_for(service, user)
    assert client.delete(f"/v1/users/{user.id}", headers=bearer(token)).status_code == 204

    def read(session: Session) -> list[object]:
        return [
            *session.scalars(select(SecondFactor).where(SecondFactor.user_id == user.id)),
            *session.scalars(select(RecoveryCode).where(RecoveryCode.user_id == user.id)),
        ]

    assert service.app.database.transact(read, write=False) == []


def test_the_database_holds_no_secret_and_no_code(service: Service, client: httpx.Client) -> None:
    user, token, app = begin(service, client)
    code = app.code()
    codes = confirm(client, token, code).json()["recovery_codes"]
    assert complete(client, challenge(client, user), codes[0]).status_code == 200
    secrets = [app.secret, base64.b32decode(app.secret), *codes]
    secrets += [each.replace("-", "") for each in codes]
    forms = {repr(secret).strip("b'\"") for secret in secrets}
    forms |= {base64.b32decode(app.secret).hex()}

    def dump(session: Session) -> str:
        tables = Base.metadata.tables.values()
        return "\n".join(
            f"{cell!r} {bytes(cell).hex() if isinstance(cell, bytes | memoryview) else ''}"
            for table in tables
            for row in session.execute(select(table))
            for cell in row
        )

    dumped = service.app.database.transact(dump, write=False)
    assert user.email in dumped
    assert not [form for form in forms if form in dumped]


def test_no_problem_repeats_a_code(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    token, app = token_for(service, user), enrolled(service, user)
    assert app.recovery_codes[0] not in disable(client, token, app.recovery_codes[0], "no").text
    for code in ("canary canary canary", "canary!"):
        assert "canary" not in replace_codes(client, token, code).text


def test_responses_with_secrets_come_from_changes_only(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    token, app = token_for(service, user), enrolled(service, user)
    read = client.get(SECOND_FACTOR, headers=bearer(token)).text
    assert set(state(client, token)) == set(NEVER)
    assert app.secret not in read
    assert not any(code in read for code in app.recovery_codes)
