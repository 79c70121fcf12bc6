"""Optional authentication: a token may be absent, but one that is sent must be valid."""

from collections.abc import Mapping

import httpx
import pytest

from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.answers import problem
from tests.api.token_forger import Forger
from tests.factories import make_account
from tests.service import Service

PATH = "/v1/products"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_token_is_optional(client: httpx.Client, method: str) -> None:
    assert client.request(method, PATH, headers=fresh_address()).status_code == 200


def test_a_caller_with_a_token_is_identified(service: Service, client: httpx.Client) -> None:
    token = token_for(service, make_account(service, role="admin"))
    answer = client.get(PATH, headers=bearer(token) | fresh_address())
    assert answer.status_code == 200


@pytest.mark.parametrize("field", ["Bearer", "Bearer x", "bearer  x.y.z"])
def test_an_invalid_authorization_header_is_refused(client: httpx.Client, field: str) -> None:
    answer = client.get(PATH, headers={"Authorization": field, **fresh_address()})
    assert (answer.status_code, problem(answer)) == (401, "not-authenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("field", ["", "Basic QTpC", "Negotiate YII=", "x"])
def test_credentials_for_a_proxy_are_ignored(client: httpx.Client, field: str) -> None:
    answer = client.get(PATH, headers={"Authorization": field, **fresh_address()})
    assert answer.status_code == 200


def test_a_token_without_the_scope_is_refused(service: Service, client: httpx.Client) -> None:
    forger = Forger(service, make_account(service))
    token = forger.signed(claims=forger.claims(scope="users:read"))
    answer = client.get(PATH, headers=bearer(token) | fresh_address())
    assert (answer.status_code, problem(answer)) == (403, "not-permitted")


def test_an_address_limit_counts_requests_with_and_without_token(
    service: Service, client: httpx.Client
) -> None:
    address: Mapping[str, str] = fresh_address()
    token = bearer(token_for(service, make_account(service)))
    left = [
        client.get(PATH, headers={**address, **each}).headers["ratelimit"].split(";")[1]
        for each in ({}, token, {})
    ]
    assert left == ["r=599", "r=598", "r=597"]
