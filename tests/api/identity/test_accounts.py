"""Reading and erasing accounts (MISSION M11, M12)."""

import httpx
import pytest

from models.identity.user import User
from tests.api.accounts import bearer, fresh_address, read_account, token_for
from tests.api.answers import problem
from tests.factories import fresh_email, make_account
from tests.service import PASSWORD, Service

pytestmark = pytest.mark.mission("M11")

PATH = "/v1/users"


def create(client: httpx.Client, **members: object) -> httpx.Response:
    """Register from an address that has registered nobody yet."""
    body = {"name": "Ada Lovelace", "email": fresh_email(), **members}
    return client.post(PATH, json=body, headers=fresh_address())


def test_a_deleted_account_is_gone(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    boss = bearer(token_for(service, make_account(service, role="admin")))
    path = f"{PATH}/{user.id}"
    answer = client.delete(path, headers=boss)
    assert answer.status_code == 204
    assert answer.content == b""
    assert not {"content-type", "content-length"} & set(answer.headers)
    for method in ("GET", "DELETE"):
        again = client.request(method, path, headers=boss)
        assert again.status_code == 404
        assert problem(again) == "not-found"
    assert client.patch(path, json={"name": "x"}, headers=boss).status_code == 404
    # The address is free again, and leads to somebody else.
    successor = create(client, email=user.email)
    assert successor.status_code == 201
    assert successor.json()["id"] != user.id


def test_a_user_can_delete_their_own_account(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    assert client.delete(f"{PATH}/{user.id}", headers=own).status_code == 204
    assert client.get(f"{PATH}/{user.id}", headers=own).status_code in (401, 404)


def test_erasure_leaves_nothing_personal_in_any_table(
    service: Service, client: httpx.Client
) -> None:
    name, local = "Zebulon Quartermain", "zebulon.quartermain"
    created = create(client, name=name, email=f"{local}@quarter.example", password=PASSWORD)
    own = bearer(token_for(service, read_account(service, created.json()["id"])))
    hashed = read_account(service, created.json()["id"]).password_hash or ""
    assert hashed in _everything_stored(service)
    assert client.delete(f"{PATH}/{created.json()['id']}", headers=own).status_code == 204
    left = _everything_stored(service).casefold()
    for trace in ("zebulon", "quarter", hashed.casefold()):
        assert trace not in left


def _everything_stored(service: Service) -> str:
    tables = User.metadata.tables.values()
    return service.app.database.transact(
        lambda session: repr([session.execute(table.select()).all() for table in tables]),
        write=False,
    )


@pytest.mark.mission("M7")
def test_an_unchanged_account_is_not_sent_again(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    own = bearer(token_for(service, user))
    for path in (f"{PATH}/{user.id}", "/v1/profile"):
        tag = client.get(path, headers=own).headers["etag"]
        for field in (tag, f"W/{tag}", "*", f'"x", {tag}'):
            answer = client.get(path, headers=own | {"If-None-Match": field})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == tag
            assert answer.headers["cache-control"] == "no-store, no-transform"
        for field in ('"x"', f'"{tag[1:-1]}0"', 'W/"x"'):
            answer = client.get(path, headers=own | {"If-None-Match": field})
            assert answer.status_code == 200
        assert client.patch("/v1/profile", json={"name": path}, headers=own).status_code == 200
        fresh = client.get(path, headers=own | {"If-None-Match": tag})
        assert (fresh.status_code, fresh.json()["name"]) == (200, path)


@pytest.mark.mission("M12")
def test_the_profile_is_the_callers_own_account(service: Service, client: httpx.Client) -> None:
    for role in ("user", "admin"):
        user = make_account(service, role=role)
        own = bearer(token_for(service, user))
        profile = client.get("/v1/profile", headers=own)
        assert profile.json() == client.get(f"{PATH}/{user.id}", headers=own).json()
        assert profile.json()["email"] == user.email
    assert client.get("/v1/profile").status_code == 401
    assert client.patch("/v1/profile", json={"name": "x"}).status_code == 401


@pytest.mark.mission("M20")
def test_an_id_is_never_reused(service: Service, client: httpx.Client) -> None:
    boss = bearer(token_for(service, make_account(service, role="admin")))
    last = create(client).json()["id"]
    assert client.delete(f"{PATH}/{last}", headers=boss).status_code == 204
    assert create(client).json()["id"] > last
