"""Sessions: started by a sign-in, extended by refresh tokens, ended by sign-outs and replays."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.access.session import RefreshToken
from models.identity.audit_event import AuditEvent
from models.identity.token import Token
from models.identity.user import User
from models.storage.base import utcnow
from tests.api.accounts import bearer, edit_account, fresh_address, grant_for, key_for, token_for
from tests.api.answers import comparable, problem
from tests.api.shopping import lines
from tests.databases import delete_ended, make_database_url
from tests.factories import make_account, make_product
from tests.service import PASSWORD, Service, running

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M14")]

LOGOUT = "/v1/auth/logout"
TOKENS = "/v1/tokens"
NEVER_ISSUED = "refresh_" + "A" * 43


def sign_in(client: httpx.Client, user: User, **headers: str) -> dict[str, Any]:
    credentials = {"email": user.email, "password": PASSWORD}
    encoded = httpx.Headers({**fresh_address(), **headers}, encoding="utf-8")
    answer = client.post("/v1/auth/token", json=credentials, headers=encoded)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refresh(client: httpx.Client, token: str) -> httpx.Response:
    headers = fresh_address()
    return client.post("/v1/auth/refresh", json={"refresh_token": token}, headers=headers)


def lives(client: httpx.Client, signed_in: dict[str, Any]) -> bool:
    headers = bearer(signed_in["access_token"])
    return client.get("/v1/profile", headers=headers).status_code == 200


def use_earlier(service: Service, session_id: str, seconds: float) -> None:
    """Move what was used of a session's refresh tokens into the past."""

    def work(session: Session) -> None:
        used = RefreshToken.used_at.is_not(None)
        query = select(RefreshToken).where(RefreshToken.session_id == UUID(session_id), used)
        for row in session.scalars(query):
            assert row.used_at is not None
            row.used_at -= timedelta(seconds=seconds)

    service.app.database.transact(work, write=True)


def change_session(service: Service, session_id: str, **changes: datetime) -> None:
    query = update(Token).where(Token.id == UUID(session_id)).values(**changes)
    service.app.database.transact(lambda session: session.execute(query), write=True)


def recorded(service: Service, user: User) -> list[tuple[str, bool]]:
    """What was written down about an account, the newest first."""
    query = select(AuditEvent).where(AuditEvent.user_id == user.id).order_by(AuditEvent.id.desc())
    events = service.app.database.transact(
        lambda session: session.scalars(query).all(), write=False
    )
    return [(event.action, event.succeeded) for event in events]


def test_a_session_that_survives_a_change_is_valid_during_it(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    signed_in = sign_in(client, user)
    product = make_product(service.app.database)

    def order() -> httpx.Response:
        headers = {**bearer(signed_in["access_token"]), "Idempotency-Key": "during"}
        return client.post("/v1/orders", json=lines((product.id, 1)), headers=headers)

    with ThreadPoolExecutor(2) as pool:

        def change(session: Session) -> list[Future[httpx.Response]]:
            """Change the account and the session as a new password does, and use the session."""
            for kind, owner in ((User, User.id), (Token, Token.user_id)):
                changed = update(kind).where(owner == user.id)
                session.execute(changed.values(token_version=kind.token_version + 1))
            waiting = [pool.submit(refresh, client, signed_in["refresh_token"]), pool.submit(order)]
            wait(waiting, 0.5)
            return waiting

        used = [each.result(20) for each in service.app.database.transact(change)]
    assert [answer.status_code for answer in used] == [200, 201]


def test_a_refresh_continues_the_session(service: Service, client: httpx.Client) -> None:
    first = sign_in(client, make_account(service))
    answer = refresh(client, first["refresh_token"])
    assert answer.status_code == 200
    second = answer.json()
    assert set(second) == set(first)
    assert second["session_id"] == first["session_id"]
    assert second["refresh_token"] != first["refresh_token"]
    assert answer.headers["cache-control"] == "no-store"
    assert lives(client, first)
    assert lives(client, second)


def test_only_hashes_of_refresh_tokens_are_stored(service: Service, client: httpx.Client) -> None:
    signed_in = sign_in(client, make_account(service))
    again = refresh(client, signed_in["refresh_token"]).json()
    query = select(RefreshToken).where(RefreshToken.session_id == UUID(signed_in["session_id"]))
    rows = service.app.database.transact(lambda session: session.scalars(query).all(), write=False)
    assert len(rows) == 2
    for row in rows:
        assert len(row.hash) == 32
        assert all(each["refresh_token"].encode() not in row.hash for each in (signed_in, again))


def test_a_lost_response_is_repeated_for_ten_seconds(
    service: Service, client: httpx.Client
) -> None:
    first = sign_in(client, make_account(service))
    lost = refresh(client, first["refresh_token"]).json()
    again = refresh(client, first["refresh_token"])
    assert again.status_code == 200
    assert again.json()["refresh_token"] == lost["refresh_token"]
    use_earlier(service, first["session_id"], 9)
    assert refresh(client, first["refresh_token"]).json()["refresh_token"] == lost["refresh_token"]
    assert refresh(client, lost["refresh_token"]).status_code == 200


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_set_signs_nobody_out(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    first = sign_in(client, make_account(service))
    for module in ("access.session", "identity.token"):
        monkeypatch.setattr(
            f"models.{module}.utcnow", lambda: utcnow() + timedelta(seconds=seconds)
        )
    second = refresh(client, first["refresh_token"])
    assert second.status_code == 200
    monkeypatch.undo()
    assert refresh(client, second.json()["refresh_token"]).status_code == 200


def test_a_clock_that_is_set_back_allows_no_replay(service: Service, client: httpx.Client) -> None:
    first = sign_in(client, make_account(service))
    second = refresh(client, first["refresh_token"]).json()
    use_earlier(service, first["session_id"], -3600)
    assert refresh(client, first["refresh_token"]).status_code == 401
    assert refresh(client, second["refresh_token"]).status_code == 401


def test_the_time_for_a_lost_response_is_a_setting(tmp_path: Path) -> None:
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, REFRESH_GRACE_SECONDS="120") as service,
    ):
        client = service.client()
        first = sign_in(client, make_account(service))
        lost = refresh(client, first["refresh_token"]).json()["refresh_token"]
        use_earlier(service, first["session_id"], 110)
        assert refresh(client, first["refresh_token"]).json()["refresh_token"] == lost
        use_earlier(service, first["session_id"], 11)
        assert refresh(client, first["refresh_token"]).status_code == 401


def test_a_later_replay_ends_the_session(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    first = sign_in(client, user)
    second = refresh(client, first["refresh_token"]).json()
    use_earlier(service, first["session_id"], 11)
    answer = refresh(client, first["refresh_token"])
    assert answer.status_code == 401
    assert problem(answer) == "invalid-refresh-token"
    assert ("refresh.replay", False) in recorded(service, user)
    assert refresh(client, second["refresh_token"]).status_code == 401
    headers = bearer(second["access_token"])
    assert client.delete(f"{TOKENS}/{first['session_id']}", headers=headers).status_code == 401


def test_reuse_of_an_older_token_ends_the_session_at_once(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    first = sign_in(client, user)
    second = refresh(client, first["refresh_token"]).json()
    third = refresh(client, second["refresh_token"]).json()
    assert refresh(client, first["refresh_token"]).status_code == 401
    assert refresh(client, third["refresh_token"]).status_code == 401
    assert recorded(service, user)[0] == ("refresh.replay", False)


def test_a_replay_keeps_other_sessions_of_the_account(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    stolen, other = sign_in(client, user), sign_in(client, user)
    second = refresh(client, stolen["refresh_token"]).json()
    refresh(client, second["refresh_token"])
    assert refresh(client, stolen["refresh_token"]).status_code == 401
    assert refresh(client, other["refresh_token"]).status_code == 200


def test_concurrent_refreshes_leave_one_lineage(service: Service, client: httpx.Client) -> None:
    first = sign_in(client, make_account(service))
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: refresh(client, first["refresh_token"]), range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert refresh(client, answers[0].json()["refresh_token"]).status_code == 200


@pytest.mark.parametrize(
    "token", [NEVER_ISSUED, "access", "key", "ended", "disabled", "demanded", "erased"]
)
def test_all_invalid_refresh_tokens_look_the_same(
    service: Service, client: httpx.Client, token: str
) -> None:
    refused = comparable(refresh(client, NEVER_ISSUED))
    assert refused.status == 401
    user, boss = make_account(service), make_account(service, role="admin")
    signed_in = sign_in(client, user)
    admin = bearer(token_for(service, boss))
    account = f"/v1/users/{user.id}"
    match token:
        case "access" | "key":
            text = signed_in["access_token"] if token == "access" else key_for(service, user)[1]
            assert refresh(client, text).status_code == 422
        case "ended":
            own = bearer(signed_in["access_token"])
            assert client.post(LOGOUT, headers=own).status_code == 204
        case "disabled":
            client.patch(account, json={"active": False}, headers=admin)
            client.patch(account, json={"active": True}, headers=admin)
        case "demanded":
            client.patch(account, json={"password_change_required": True}, headers=admin)
        case "erased":
            assert client.delete(account, headers=admin).status_code == 204
    if token in ("ended", "disabled", "demanded", "erased"):
        assert comparable(refresh(client, signed_in["refresh_token"])) == refused


def test_idle_and_absolute_lifetimes_survive_rotation(
    service: Service, client: httpx.Client
) -> None:
    rules = service.app.settings
    signed_in = sign_in(client, make_account(service))
    token, session_id = signed_in["refresh_token"], signed_in["session_id"]

    def read() -> dict[str, Any]:
        headers = bearer(signed_in["access_token"])
        return dict(client.get(f"{TOKENS}/{session_id}", headers=headers).json())

    def times() -> tuple[datetime, datetime]:
        row = read()
        return tuple(datetime.fromisoformat(row[name]) for name in ("created_at", "expires_at"))  # type: ignore[return-value]  # it has two.

    created, expires = times()
    idle, longest = rules.session_idle_seconds, rules.session_seconds
    assert abs((expires - created).total_seconds() - idle) < 5
    # A session that began nearly as long ago as it may last is not prolonged beyond that.
    began = created - timedelta(seconds=longest - 100)
    change_session(service, session_id, created_at=began)
    token = refresh(client, token).json()["refresh_token"]
    created, expires = times()
    assert (expires - created).total_seconds() == longest
    # Its access tokens do not outlive it either.
    assert refresh(client, token).json()["expires_in"] <= 100
    change_session(service, session_id, expires_at=began)
    assert refresh(client, token).status_code == 401


@pytest.mark.parametrize("everywhere", [None, "false", "true"])
def test_signing_out_ends_one_session_or_all(
    service: Service, client: httpx.Client, everywhere: str | None
) -> None:
    user = make_account(service)
    here, there = sign_in(client, user), sign_in(client, user)
    params = {} if everywhere is None else {"everywhere": everywhere}
    answer = client.post(LOGOUT, headers=bearer(here["access_token"]), params=params)
    assert answer.status_code == 204
    assert answer.content == b""
    # A write asks about the session itself, whatever was known of it half a second ago.
    mine = client.post(LOGOUT, headers=bearer(here["access_token"]))
    assert mine.status_code == 401
    assert refresh(client, here["refresh_token"]).status_code == 401
    assert refresh(client, there["refresh_token"]).status_code == (
        401 if everywhere == "true" else 200
    )
    action = "session.end-all" if everywhere == "true" else "token.end"
    assert (action, True) in recorded(service, user)


def test_a_new_password_ends_other_sessions_and_keys(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    here, there = sign_in(client, user), sign_in(client, user)
    key = key_for(service, user, "profile:write")[1]
    change = {"password": "eleven quiet harbours", "current_password": PASSWORD}
    headers = bearer(here["access_token"])
    assert client.patch("/v1/profile", json=change, headers=headers).status_code == 200
    assert client.patch("/v1/profile", json={"name": "Ada"}, headers=headers).status_code == 200
    assert lives(client, here)
    assert refresh(client, here["refresh_token"]).status_code == 200
    assert refresh(client, there["refresh_token"]).status_code == 401
    for ended in (there["access_token"], key):
        answer = client.patch("/v1/profile", json={"name": "Eve"}, headers=bearer(ended))
        assert answer.status_code == 401
    assert ("password.change", True) in recorded(service, user)


def test_an_administrator_ends_all_sessions_of_an_account(
    service: Service, client: httpx.Client
) -> None:
    user, boss = make_account(service), make_account(service, role="admin")
    signed_in = sign_in(client, user)
    url = f"/v1/users/{user.id}/logout"
    admin = bearer(token_for(service, boss))
    assert client.post(url, headers=admin).status_code == 204
    assert refresh(client, signed_in["refresh_token"]).status_code == 401
    assert recorded(service, user)[0] == ("session.end-all", True)


def test_a_password_that_must_be_changed_cannot_sign_in(
    service: Service, client: httpx.Client
) -> None:
    user, boss = make_account(service), make_account(service, role="admin")
    admin = bearer(token_for(service, boss))
    change = {"password_change_required": True}
    answer = client.patch(f"/v1/users/{user.id}", json=change, headers=admin)
    assert answer.json()["password_change_required"] is True
    credentials = {"email": user.email, "password": PASSWORD}
    answer = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    assert answer.status_code == 403
    assert problem(answer) == "password-change-required"
    credentials["password"] = "not this one either"
    answer = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    assert answer.status_code == 401
    own = bearer(token_for(service, make_account(service)))
    assert client.patch("/v1/profile", json=change, headers=own).status_code == 422
    assert ("account.require-password-change", True) in recorded(service, user)


def test_a_session_records_the_address_of_its_last_use(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    agent = {"User-Agent": "Conc\u00f6rd tests/1.0\t(a tab)", "X-Forwarded-For": "203.0.113.9"}
    signed_in = sign_in(client, user, **agent)
    headers = bearer(signed_in["access_token"])
    row = client.get(f"{TOKENS}/{signed_in['session_id']}", headers=headers).json()
    assert row["kind"] == "session"
    assert row["name"] is None
    assert row["address"] == "203.0.113.9"
    assert row["user_agent"] == "Conc\u00f6rd tests/1.0(a tab)"
    assert row["scopes"] == signed_in["scope"].split(" ")


def test_expired_tokens_are_removed(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    ended, living = sign_in(client, user), sign_in(client, user)
    assert client.post(LOGOUT, headers=bearer(ended["access_token"])).status_code == 204
    delete_ended(service.app.database)
    query = select(Token.id).where(Token.user_id == user.id)
    left = service.app.database.transact(lambda session: session.scalars(query).all(), write=False)
    assert [str(each) for each in left] == [living["session_id"]]
    assert refresh(client, ended["refresh_token"]).status_code == 401


def test_an_erased_account_leaves_no_session(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    signed_in = sign_in(client, user)
    key_for(service, user, "orders:read")
    headers = bearer(signed_in["access_token"])
    assert client.delete(f"/v1/users/{user.id}", headers=headers).status_code == 204

    def rows(session: Session) -> list[object]:
        known = select(AuditEvent.address).where(AuditEvent.user_id == user.id)
        return [
            *session.scalars(select(Token).where(Token.user_id == user.id)),
            *(address for address in session.scalars(known) if address is not None),
        ]

    assert service.app.database.transact(rows, write=False) == []


def test_a_promotion_ends_earlier_sessions(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    grant = grant_for(service, user)
    edit_account(service, user.id, lambda session, row: row.change(session, role="admin"))
    assert refresh(client, grant.refresh_token).status_code == 401


def test_a_session_cannot_be_refreshed_forever(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.access.session._MOST", 3)
    token = sign_in(client, make_account(service))["refresh_token"]
    for _ in range(2):
        token = refresh(client, token).json()["refresh_token"]
    answer = refresh(client, token)
    assert (answer.status_code, problem(answer)) == (401, "invalid-refresh-token")


def test_tokens_ended_by_a_new_password_are_removed(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    sign_in(client, user)
    edit_account(service, user.id, lambda session, row: row.end_tokens(session))
    delete_ended(service.app.database)
    query = select(Token.id).where(Token.user_id == user.id)
    left = service.app.database.transact(lambda session: session.scalars(query).all(), write=False)
    assert left == []
