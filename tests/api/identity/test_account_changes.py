"""Permissions to change accounts, and the effects of each change (MISSION M11, M12, M18)."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx
import pytest

from models.identity.user import Role, User
from tests.api.accounts import bearer, fresh_address, read_account, token_for
from tests.api.answers import problem
from tests.api.hashing import hashing_held
from tests.factories import make_account
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M11"), pytest.mark.mission("M12"), pytest.mark.mission("M18")]

NEW_PASSWORD = "eleven quiet harbours"
PROFILE = "/v1/profile"
PROOF = {"current_password": PASSWORD}


def account(service: Service, role: Role = "user") -> tuple[User, str, dict[str, str]]:
    """An account, its path and the header of its owner."""
    user = make_account(service, role=role)
    return user, f"/v1/users/{user.id}", bearer(token_for(service, user))


def signs_in(client: httpx.Client, email: str, password: str) -> bool:
    credentials = {"email": email, "password": password}
    answer = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    return answer.status_code == 200


@pytest.mark.parametrize("by_profile", [True, False])
def test_an_owner_changes_name_and_password(
    service: Service, client: httpx.Client, *, by_profile: bool
) -> None:
    user, path, own = account(service)
    path = PROFILE if by_profile else path
    body = {"name": " Zoe\u0308 ", "password": NEW_PASSWORD, **PROOF}
    answer = client.patch(path, json=body, headers=own)
    assert answer.status_code == 200
    changed = answer.json()
    assert (changed["id"], changed["name"], changed["email"]) == (user.id, "Zo\u00eb", user.email)
    assert datetime.fromisoformat(changed["updated_at"]) > user.updated_at
    assert signs_in(client, user.email, NEW_PASSWORD)
    assert not signs_in(client, user.email, PASSWORD)


def test_omitted_members_stay_unchanged(service: Service, client: httpx.Client) -> None:
    user, path, own = account(service)
    before = client.get(path, headers=own).json()
    after = client.patch(path, json={"name": "Ada King"}, headers=own).json()
    assert after == before | {"name": "Ada King", "updated_at": after["updated_at"]}
    assert signs_in(client, user.email, PASSWORD)


@pytest.mark.parametrize("path", [PROFILE, "/v1/users/{}"])
def test_a_new_password_needs_the_current_one(
    service: Service, client: httpx.Client, path: str
) -> None:
    user, _, own = account(service)
    change = {"password": NEW_PASSWORD}
    path = path.format(user.id)
    without = client.patch(path, json=change, headers=own)
    assert without.status_code == 422
    assert without.json()["missing_fields"] == ["current_password"]
    assert without.json()["errors"][0]["pointer"] == "/current_password"
    wrong = client.patch(path, json={**change, "current_password": "wrong"}, headers=own)
    assert wrong.status_code == 403
    assert problem(wrong) == "wrong-password"
    assert read_account(service, user.id).password_hash == user.password_hash


def test_an_administrator_changes_name_role_and_activity(
    service: Service, client: httpx.Client
) -> None:
    user, path, _ = account(service)
    _, _, boss = account(service, "admin")
    body = {"name": "Ada King", "role": "admin", "active": False}
    answer = client.patch(path, json=body, headers=boss)
    assert answer.status_code == 200
    assert answer.json() == answer.json() | body
    assert not signs_in(client, user.email, PASSWORD)
    assert client.patch(path, json={"active": True}, headers=boss).json()["active"]
    assert signs_in(client, user.email, PASSWORD)


@pytest.mark.parametrize("proof", [None, "wrong", PASSWORD])
def test_an_administrator_does_not_change_the_password_of_others(
    service: Service, client: httpx.Client, proof: str | None
) -> None:
    user, path, _ = account(service)
    _, _, boss = account(service, "admin")
    body = {"password": NEW_PASSWORD, **({"current_password": proof} if proof else {})}
    answer = client.patch(path, json=body, headers=boss)
    assert answer.status_code == 403
    assert problem(answer) == "not-permitted"
    assert signs_in(client, user.email, PASSWORD)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "admin"},
        {"role": "user"},
        {"active": False},
        {"active": True},
        {"role": "admin", "name": "Mallory"},
        {"role": "admin", **PROOF},
        {"role": "admin", "password": NEW_PASSWORD, **PROOF},
    ],
    ids=str,
)
def test_a_user_does_not_change_their_own_role_or_activity(
    service: Service, client: httpx.Client, change: Mapping[str, object]
) -> None:
    user, path, own = account(service)
    answer = client.patch(path, json=change, headers=own)
    assert answer.status_code == 403
    assert problem(answer) == "not-permitted"
    assert client.patch(PROFILE, json=change, headers=own).status_code == 422
    # All of it is refused, what they might change included.
    assert read_account(service, user.id).version == user.version


@pytest.mark.mission("M10")
@pytest.mark.parametrize("path", [PROFILE, "/v1/users/{}"])
@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({}, ""),
        ({"name": ""}, "/name"),
        ({"name": None}, "/name"),
        ({"email": "new@concord.example", **PROOF}, ""),
        ({"password": "password123", **PROOF}, "/password"),
        ({"password": "short", **PROOF}, "/password"),
        ({"password": None, **PROOF}, "/password"),
        ({"current_password": ""}, "/current_password"),
        ({"id": 1}, ""),
    ],
    ids=str,
)
def test_a_change_that_breaks_a_rule_is_unprocessable(
    service: Service,
    client: httpx.Client,
    path: str,
    change: Mapping[str, object],
    pointer: str,
) -> None:
    user, _, own = account(service)
    answer = client.patch(path.format(user.id), json=change, headers=own)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert read_account(service, user.id).version == user.version


@pytest.mark.mission("M22")
@pytest.mark.parametrize("path", [PROFILE, "/v1/users/{}"])
def test_the_current_password_cannot_be_guessed_with_a_token(
    service: Service, client: httpx.Client, path: str
) -> None:
    user, _, own = account(service)
    path = path.format(user.id)
    guess = {"name": "Mallory", "current_password": "wrong", "password": NEW_PASSWORD}
    for _ in range(10):
        assert client.patch(path, json=guess, headers=own).status_code == 403
    for password in ("wrong", PASSWORD):
        limited = client.patch(path, json=guess | {"current_password": password}, headers=own)
        assert limited.status_code == 429
        assert problem(limited) == "rate-limited"
        assert 1 <= int(limited.headers["retry-after"]) <= 600
    # What needs no password is not kept from them.
    assert client.patch(path, json={"name": "Ada King"}, headers=own).status_code == 200


@pytest.mark.mission("M25")
def test_a_password_check_does_not_block_other_writers(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, own = account(service)
    _, path, theirs = account(service)
    body = {"password": NEW_PASSWORD, **PROOF}
    with hashing_held(monkeypatch) as held, ThreadPoolExecutor(1) as pool:
        changing = pool.submit(client.patch, PROFILE, json=body, headers=own)
        held.wait_for(1)
        assert client.delete(path, headers=theirs).status_code == 204
        assert not changing.done()
        held.let_go()
        assert changing.result().status_code == 200
