"""`ADMIN_SECOND_FACTOR`: administrators without a second factor have the rights of a user."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from models.identity.permission import SCOPES_OF_ROLE, grantable
from models.identity.user import User
from tests.api.accounts import bearer, fresh_address, grant_for, key_for, token_for
from tests.api.authenticators import challenge, complete, disable, enrolled
from tests.databases import KINDS, make_database_url
from tests.factories import make_account
from tests.service import PASSWORD, Service, running

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M14")]

CACHED = 0.6
"""Seconds after which a change of an account's rights has reached every request."""


@pytest.fixture(scope="module", params=KINDS)
def strict(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service whose administrators need a second factor."""
    folder = tmp_path_factory.mktemp("strict")
    with (
        make_database_url(request.param, folder) as url,
        running(folder, url, ADMIN_SECOND_FACTOR="true") as service,
    ):
        yield service


def test_an_administrator_without_second_factor_is_a_user(strict: Service) -> None:
    client = strict.client()
    plain, other = make_account(strict, role="admin"), make_account(strict)
    credentials = {"email": plain.email, "password": PASSWORD}
    answer = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    signed_in: dict[str, Any] = answer.json()
    headers = bearer(signed_in["access_token"])
    assert signed_in["scope"] == " ".join(SCOPES_OF_ROLE["user"])
    assert client.get("/v1/users", headers=headers).status_code == 403
    assert client.get("/v1/profile", headers=headers).status_code == 200
    # No scope of a user reaches what belongs to others, whatever the account's role.
    path = f"/v1/users/{other.id}"
    for method, url, body in (
        ("GET", path, None),
        ("PATCH", path, {"role": "admin"}),
        ("DELETE", path, None),
        ("POST", f"{path}/logout", None),
        ("GET", f"/v1/tokens/{grant_for(strict, other).session.id}", None),
    ):
        assert client.request(method, url, json=body, headers=headers).status_code == 404
    for url in (f"/v1/audit-events?user_id={other.id}", f"/v1/tokens?user_id={other.id}"):
        assert client.get(url, headers=headers).json()["items"] == []
    key = {"name": "Export", "scopes": ["admin:access"]}
    assert client.post("/v1/tokens", json=key, headers=headers).status_code == 403


def earlier_credentials(strict: Service, user: User) -> dict[str, dict[str, str]]:
    """A session and a key with all of an administrator's rights, as earlier settings gave them."""
    scopes = sorted(grantable(SCOPES_OF_ROLE["admin"]))
    return {
        "session": bearer(token_for(strict, user)),
        "key": bearer(key_for(strict, user, *scopes)[1]),
    }


def reach(client: httpx.Client, headers: dict[str, str], other: User) -> list[int]:
    """What becomes of three requests that only an administrator may make."""
    product = {"sku": f"sku-{time.time_ns()}", "name": "Tea", "price": PRICE}
    return [
        client.get("/v1/users", headers=headers).status_code,
        client.get(f"/v1/users/{other.id}", headers=headers).status_code,
        client.post("/v1/products", json=product, headers=headers).status_code,
    ]


PRICE = {"amount": 100, "currency": "EUR"}
REFUSED, ADMITTED = [403, 404, 403], [200, 200, 201]


@pytest.mark.parametrize("kind", ["session", "key"])
def test_earlier_credentials_have_the_rights_of_a_user(strict: Service, kind: str) -> None:
    administrator, other = make_account(strict, role="admin"), make_account(strict)
    headers = earlier_credentials(strict, administrator)[kind]
    client = strict.client()
    assert reach(client, headers, other) == REFUSED
    assert client.get("/v1/profile", headers=headers).json()["role"] == "admin"


@pytest.mark.parametrize("kind", ["session", "key"])
def test_an_unconfirmed_second_factor_gives_no_rights(strict: Service, kind: str) -> None:
    administrator, other = make_account(strict, role="admin"), make_account(strict)
    headers = earlier_credentials(strict, administrator)[kind]
    enrolled(strict, administrator, confirmed=False)
    assert reach(strict.client(), headers, other) == REFUSED


@pytest.mark.parametrize("kind", ["session", "key"])
def test_a_second_factor_restores_rights_of_earlier_credentials(strict: Service, kind: str) -> None:
    administrator, other = make_account(strict, role="admin"), make_account(strict)
    headers = earlier_credentials(strict, administrator)[kind]
    client = strict.client()
    assert reach(client, headers, other) == REFUSED
    enrolled(strict, administrator)
    time.sleep(CACHED)
    assert reach(client, headers, other) == ADMITTED


def test_disabling_the_second_factor_removes_the_rights_at_once(strict: Service) -> None:
    administrator, other = make_account(strict, role="admin"), make_account(strict)
    app, client = enrolled(strict, administrator), strict.client()
    waiting = challenge(client, administrator)
    token = complete(client, waiting, app.code()).json()["access_token"]
    headers = bearer(token)
    assert reach(client, headers, other) == ADMITTED
    assert disable(client, token, app.recovery_codes[0]).status_code == 204
    # A write asks the database again; a read may rely on an answer of half a second ago.
    body = {"name": "Mallory"}
    assert client.patch(f"/v1/users/{other.id}", json=body, headers=headers).status_code == 404
    product = {"sku": f"sku-{time.time_ns()}", "name": "Tea", "price": PRICE}
    assert client.post("/v1/products", json=product, headers=headers).status_code == 403
    time.sleep(CACHED)
    assert reach(client, headers, other) == REFUSED
    assert client.get("/v1/profile", headers=headers).status_code == 200
