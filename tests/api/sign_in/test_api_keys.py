"""API keys: created for programs, with fewer rights than their creators."""

import re
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.identity.audit_event import RequestOrigin
from models.identity.permission import SCOPES_OF_ROLE, grantable
from models.identity.token import Token
from tests.api.accounts import bearer, grant_for, key_for, token_for
from tests.api.answers import comparable, problem
from tests.api.resources import BUNDLE
from tests.api.shopping import payment
from tests.factories import fresh_email, make_account, make_order
from tests.service import PASSWORD, Service

pytestmark = pytest.mark.mission("M14")

TOKENS = "/v1/tokens"


def create(client: httpx.Client, headers: dict[str, str], **members: object) -> httpx.Response:
    body = {"name": "Nightly export", "scopes": ["orders:read"], **members}
    return client.post(TOKENS, json=body, headers=headers)


def test_a_key_works_wherever_a_bearer_token_does(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    answer = create(client, bearer(token_for(service, user)), scopes=["profile:read"])
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"].endswith(f"{TOKENS}/{made['id']}")
    assert client.get("/v1/profile", headers=bearer(made["key"])).json()["id"] == user.id
    refused = client.get("/v1/orders", headers=bearer(made["key"]))
    assert refused.status_code == 403
    assert problem(refused) == "not-permitted"


def test_a_key_is_shown_once_and_kept_as_a_hash(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    made = create(client, own).json()
    for answer in (
        client.get(f"{TOKENS}/{made['id']}", headers=own),
        client.get(TOKENS, headers=own),
    ):
        assert answer.status_code == 200
        assert made["key"] not in answer.text
    query = select(Token).where(Token.name == "Nightly export", Token.user_id == user.id)
    row = service.app.database.transact(lambda session: session.scalars(query).one(), write=False)
    assert row.key_hash is not None
    assert len(row.key_hash) == 32
    assert made["key"].encode() not in row.key_hash


def test_a_key_is_recognised_and_checked_without_the_database(
    service: Service, client: httpx.Client
) -> None:
    made = create(client, bearer(token_for(service, make_account(service)))).json()
    text, _, checksum = made["key"].rpartition("_")
    assert re.fullmatch("concord_[A-Za-z0-9_-]{43}", text)
    assert int(checksum, 16) == zlib.crc32(text.encode())


_MADE_UP = "concord_" + "A" * 43
SPOILED: Mapping[str, Callable[[str], str]] = {
    "cut off": lambda key: key[:-1],
    "longer": lambda key: f"{key}0",
    "mistyped": lambda key: key[:20] + ("A" if key[20] != "A" else "B") + key[21:],
    "in capitals": lambda key: key.upper(),
    "made up": lambda _: f"{_MADE_UP}_{zlib.crc32(_MADE_UP.encode()):08x}",
    "with a second prefix": lambda key: f"concord_{key}",
    "the prefix alone": lambda _: "concord_",
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_an_invalid_key_is_refused_like_any_invalid_token(
    service: Service, client: httpx.Client, spoil: str
) -> None:
    refused = client.get("/v1/profile", headers=bearer("not.a.token"))
    key = key_for(service, make_account(service), "profile:read")[1]
    answer = client.get("/v1/profile", headers=bearer(SPOILED[spoil](key)))
    assert answer.status_code == 401
    assert comparable(answer) == comparable(refused)


def test_nobody_gives_a_key_more_scopes_than_they_have(
    service: Service, client: httpx.Client
) -> None:
    user, boss = make_account(service), make_account(service, role="admin")
    for scope in sorted(grantable(SCOPES_OF_ROLE["admin"]) - set(SCOPES_OF_ROLE["user"])):
        assert create(client, bearer(token_for(service, user)), scopes=[scope]).status_code == 403
        assert create(client, bearer(token_for(service, boss)), scopes=[scope]).status_code == 201
    for scope in ("tokens:write", "security:write", "everything:all"):
        answer = create(client, bearer(token_for(service, boss)), scopes=[scope])
        assert answer.status_code == 422


def test_a_key_cannot_create_or_end_tokens(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    scopes = sorted(grantable(SCOPES_OF_ROLE["user"]))
    token, key = key_for(service, user, *scopes)
    assert create(client, bearer(key)).status_code == 403
    assert client.delete(f"{TOKENS}/{token.id}", headers=bearer(key)).status_code == 403
    assert client.post("/v1/auth/logout", headers=bearer(key)).status_code == 403
    assert client.post(f"/v1/users/{user.id}/logout", headers=bearer(key)).status_code == 403


@pytest.mark.mission("M30")
@pytest.mark.parametrize(
    ("scopes", "missing"),
    [(["orders:manage"], "admin:access"), (["admin:access"], "orders:manage")],
)
def test_a_key_is_told_which_scope_it_lacks(
    service: Service, client: httpx.Client, scopes: list[str], missing: str
) -> None:
    order = make_order(service.app.database)
    headers = bearer(key_for(service, make_account(service, role="admin"), *scopes)[1])
    headers["Idempotency-Key"] = missing
    for action, body in (("pay", payment(100)), ("deliver", None), ("refund", {})):
        answer = client.post(f"/v1/orders/{order.id}/{action}", json=body, headers=headers)
        assert (answer.status_code, problem(answer)) == (403, "not-permitted")
        assert missing in answer.json()["detail"]


def test_a_key_cannot_move_its_account_to_another_address(
    service: Service, client: httpx.Client
) -> None:
    key = key_for(service, make_account(service), *grantable(SCOPES_OF_ROLE["user"]))[1]
    body = {"email": fresh_email(), "current_password": PASSWORD}
    answer = client.post("/v1/profile/email-change", json=body, headers=bearer(key))
    assert (answer.status_code, problem(answer)) == (403, "not-permitted")


def test_the_scopes_of_keys_are_those_in_the_contract() -> None:
    declared = BUNDLE["components"]["schemas"]["KeyScope"]["enum"]
    assert set(declared) == grantable(SCOPES_OF_ROLE["admin"])
    assert len(declared) == len(set(declared))


def test_deleted_and_expired_keys_are_refused(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    made = create(client, own, scopes=["profile:read", "profile:write"]).json()
    key = bearer(made["key"])
    assert client.get("/v1/profile", headers=key).status_code == 200
    assert client.delete(f"{TOKENS}/{made['id']}", headers=own).status_code == 204
    # A write asks anew; a read may go on for less than a second.
    assert client.patch("/v1/profile", json={"name": "Eve"}, headers=key).status_code == 401
    time.sleep(0.6)
    assert client.get("/v1/profile", headers=key).status_code == 401
    assert client.get(f"{TOKENS}/{made['id']}", headers=own).status_code == 404
    expired = bearer(key_for(service, user, "profile:read", days=-1)[1])
    assert client.get("/v1/profile", headers=expired).status_code == 401


def test_a_key_expires_at_its_expiry_time(service: Service, client: httpx.Client) -> None:
    own = bearer(token_for(service, make_account(service)))
    for days, asked in ((90, {}), (7, {"expires_in_days": 7})):
        made = create(client, own, **asked).json()
        created, expires = (
            datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at")
        )
        assert (expires - created).days == days
    for refused in (0, 367, 1.5, "7"):
        assert create(client, own, expires_in_days=refused).status_code == 422


def test_an_account_has_at_most_a_hundred_keys(service: Service, client: httpx.Client) -> None:
    user = make_account(service)

    def fill(session: Session) -> None:
        for number in range(100):
            Token.begin(
                session,
                user,
                "api_key",
                name=f"Key {number}",
                scopes=["orders:read"],
                lifetime=timedelta(days=1),
                origin=RequestOrigin(),
            )

    service.app.database.transact(fill, write=True)
    answer = create(client, bearer(token_for(service, user)))
    assert answer.status_code == 409
    assert problem(answer) == "too-many-keys"


def test_the_list_has_the_callers_own_keys_newest_first(
    service: Service, client: httpx.Client
) -> None:
    user, other = make_account(service), make_account(service)
    own = bearer(token_for(service, user))
    key_for(service, other, "orders:read")
    made = [create(client, own, name=f"Key {number}").json()["id"] for number in range(3)]
    found: list[str] = []
    params: dict[str, str] = {"limit": "2", "kind": "api_key"}
    while True:
        page = client.get(TOKENS, params=params, headers=own).json()
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert found == made[::-1]
    sessions = client.get(TOKENS, params={"kind": "session"}, headers=own).json()["items"]
    assert [item["kind"] for item in sessions] == ["session"]


def test_administrators_list_and_end_tokens_of_others(
    service: Service, client: httpx.Client
) -> None:
    user, other = make_account(service), make_account(service)
    boss = bearer(token_for(service, make_account(service, role="admin")))
    session_id = str(grant_for(service, user).session.id)
    query = {"user_id": str(user.id)}
    listed = client.get(TOKENS, params=query, headers=boss).json()["items"]
    assert [item["id"] for item in listed] == [session_id]
    nosy = bearer(token_for(service, other))
    assert client.get(TOKENS, params=query, headers=nosy).json()["items"] == []
    assert client.get(f"{TOKENS}/{session_id}", headers=nosy).status_code == 404
    assert client.delete(f"{TOKENS}/{session_id}", headers=nosy).status_code == 404
    assert client.delete(f"{TOKENS}/{session_id}", headers=boss).status_code == 204


def test_the_last_use_of_a_token_is_recorded(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    token, key = key_for(service, user, "tokens:read")
    for _ in range(40):
        answer = client.get(f"{TOKENS}/{token.id}", headers=bearer(key))
        if datetime.fromisoformat(answer.json()["last_used_at"]) > token.created_at:
            return
        time.sleep(0.5)
    pytest.fail("the use of a key was not written down")
