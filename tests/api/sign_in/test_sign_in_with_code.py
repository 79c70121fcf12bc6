"""Signing in to an account with a second factor: a challenge, and a code that completes it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import httpx
import pytest
from sqlalchemy import update

from models.identity.one_time_token import OneTimeToken
from models.identity.user import Role
from models.storage.base import utcnow
from tests.api.accounts import bearer, edit_account, fresh_address, key_for, token_for
from tests.api.answers import comparable, problem
from tests.api.authenticators import challenge, complete, enrolled
from tests.factories import fresh_email, make_account
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M14")]


class Owner:
    """Somebody with a second factor, and their authenticator."""

    def __init__(self, service: Service, client: httpx.Client, *, role: Role = "user") -> None:
        self.user = make_account(service, role=role)
        self.app = enrolled(service, self.user)
        self._client = client

    def begin(self, password: str = PASSWORD) -> httpx.Response:
        credentials = {"email": self.user.email, "password": password}
        return self._client.post("/v1/auth/token", json=credentials, headers=fresh_address())

    def challenge(self) -> str:
        return challenge(self._client, self.user)

    def complete(self, waiting: str, code: str) -> httpx.Response:
        return complete(self._client, waiting, code)


@pytest.fixture
def owner(service: Service, client: httpx.Client) -> Owner:
    return Owner(service, client)


def test_a_password_alone_returns_a_challenge(owner: Owner) -> None:
    answer = owner.begin()
    assert answer.status_code == 403
    assert problem(answer) == "second-factor-required"
    assert "access_token" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    wrong = owner.begin("not this one either")
    assert (wrong.status_code, problem(wrong)) == (401, "wrong-credentials")


def test_a_code_completes_the_sign_in(client: httpx.Client, owner: Owner) -> None:
    answer = owner.complete(owner.challenge(), owner.app.code())
    assert answer.status_code == 200
    headers = bearer(answer.json()["access_token"])
    assert client.get("/v1/profile", headers=headers).json()["id"] == owner.user.id


def test_a_code_may_be_typed_in_full_width_digits(owner: Owner) -> None:
    code = "".join(chr(ord(digit) + 0xFEE0) for digit in owner.app.code())
    assert owner.complete(owner.challenge(), f"{code[:3]}\u3000{code[3:]}").status_code == 200


def test_codes_and_challenges_work_once(owner: Owner) -> None:
    waiting, code = owner.challenge(), owner.app.code()
    assert owner.complete(waiting, code).status_code == 200
    again = owner.complete(waiting, owner.app.recovery_codes[0])
    assert (again.status_code, problem(again)) == (401, "invalid-challenge")
    used = owner.complete(owner.challenge(), code)
    assert (used.status_code, problem(used)) == (403, "wrong-code")


def test_concurrent_sign_ins_with_one_code_succeed_once(owner: Owner) -> None:
    challenges, code = [owner.challenge() for _ in range(8)], owner.app.code()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: owner.complete(each, code), challenges))
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 7


def test_concurrent_uses_of_one_challenge_succeed_once(owner: Owner) -> None:
    waiting = owner.challenge()
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda code: owner.complete(waiting, code), owner.app.recovery_codes[:8])
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


def test_guessing_is_stopped_but_the_owner_gets_in(owner: Owner) -> None:
    waiting, wrong = owner.challenge(), owner.app.wrong_code()
    for _ in range(5):
        assert problem(owner.complete(waiting, wrong)) == "wrong-code"
    # Now even the right one is refused, as the wrong ones were.
    assert comparable(owner.complete(waiting, owner.app.code())) == comparable(
        owner.complete(waiting, wrong)
    )
    assert owner.complete(waiting, owner.app.recovery_codes[0]).status_code == 200


def test_a_recovery_code_works_once_however_it_is_typed(owner: Owner) -> None:
    code = owner.app.recovery_codes[0]
    typed = "\t" + code.upper().replace("-", "\u2011\u00a0", 3)
    assert owner.complete(owner.challenge(), typed).status_code == 200
    assert owner.complete(owner.challenge(), code).status_code == 403


def test_a_challenge_expires(service: Service, owner: Owner) -> None:
    waiting = owner.challenge()
    mine = update(OneTimeToken).where(OneTimeToken.user_id == owner.user.id)
    past = mine.values(expires_at=utcnow() - timedelta(seconds=1))
    service.app.database.transact(lambda session: session.execute(past), write=True)
    assert problem(owner.complete(waiting, owner.app.code())) == "invalid-challenge"


@pytest.mark.parametrize("ending", ["disabled", "signed out everywhere", "erased"])
def test_ending_all_tokens_ends_pending_sign_ins(
    service: Service, owner: Owner, ending: str
) -> None:
    waiting = owner.challenge()
    user_id = owner.user.id
    match ending:
        case "disabled":
            edit_account(service, user_id, lambda session, row: row.change(session, active=False))
        case "signed out everywhere":
            edit_account(service, user_id, lambda session, row: row.end_tokens(session))
        case "erased":
            edit_account(service, user_id, lambda session, row: row.erase(session))
    answer = owner.complete(waiting, owner.app.code())
    assert (answer.status_code, problem(answer)) == (401, "invalid-challenge")


def test_a_code_does_not_complete_another_users_sign_in(
    service: Service, client: httpx.Client, owner: Owner
) -> None:
    other = Owner(service, client)
    assert owner.complete(owner.challenge(), other.app.code()).status_code == 403
    assert owner.complete(owner.challenge(), other.app.recovery_codes[0]).status_code == 403


def test_changing_credentials_keeps_the_second_factor_required(
    service: Service, client: httpx.Client, owner: Owner
) -> None:
    own = bearer(token_for(service, owner.user))
    password = {"password": "eleven quiet harbours", "current_password": PASSWORD}
    address = {"email": fresh_email(), "current_password": PASSWORD}
    for method, path, body in (
        ("PATCH", "/v1/profile", password),
        ("PATCH", f"/v1/users/{owner.user.id}", password),
        ("POST", "/v1/profile/email-change", address),
    ):
        headers = own | fresh_address()
        without = client.request(method, path, json=body, headers=headers)
        assert (without.status_code, without.json()["missing_fields"]) == (422, ["code"])
        wrong = {**body, "code": owner.app.wrong_code()}
        refused = client.request(method, path, json=wrong, headers=headers)
        assert (refused.status_code, problem(refused)) == (403, "wrong-code")
    address["code"] = owner.app.code()
    answer = client.post("/v1/profile/email-change", json=address, headers=own | fresh_address())
    assert answer.status_code == 202
    password["code"] = owner.app.recovery_codes[0]
    answer = client.patch("/v1/profile", json=password, headers=own | fresh_address())
    assert answer.status_code == 200


def test_a_sign_in_after_a_password_reset_requires_a_code(
    service: Service, client: httpx.Client, owner: Owner
) -> None:
    issue = partial(
        OneTimeToken.issue, user=owner.user, purpose="set_password", lifetime=timedelta(hours=1)
    )
    link = service.app.database.transact(issue, write=True)
    body = {"token": link, "password": "eleven quiet harbours"}
    answer = client.post("/v1/auth/password-reset/confirm", json=body, headers=fresh_address())
    assert answer.status_code == 204
    answer = owner.begin("eleven quiet harbours")
    assert (answer.status_code, problem(answer)) == (403, "second-factor-required")


def test_a_key_without_admin_access_is_not_an_administrators(
    service: Service, client: httpx.Client
) -> None:
    boss, other = make_account(service, role="admin"), make_account(service)
    path = f"/v1/users/{other.id}"
    narrow = bearer(key_for(service, boss, "users:read", "users:write")[1])
    assert client.get(path, headers=narrow).status_code == 404
    assert client.patch(path, json={"name": "Mallory"}, headers=narrow).status_code == 404
    wide = bearer(key_for(service, boss, "users:read", "admin:access")[1])
    assert client.get(path, headers=wide).status_code == 200
