"""Limits as the contract declares them, counted in memory (MISSION M22)."""

import re

import httpx
import pytest

from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.answers import problem
from tests.api.resources import BUNDLE
from tests.factories import make_account
from tests.service import Service

pytestmark = pytest.mark.mission("M22")

# A list of items with parameters (RFC 9651), as draft-ietf-httpapi-ratelimit-headers-10 has it.
POLICY = re.compile(r'"([a-z-]+)";q=([1-9][0-9]*);w=([1-9][0-9]*)')
STATE = re.compile(r'"([a-z-]+)";r=(0|[1-9][0-9]*);t=([1-9][0-9]*)')
DIVIDE = "/v1/divide?a=1&b=1"


def items(form: re.Pattern[str], field: str) -> dict[str, tuple[int, int]]:
    """Read a field: what each limit, by name, says."""
    found = [form.fullmatch(item) for item in field.split(", ")]
    return {match[1]: (int(match[2]), int(match[3])) for match in found if match is not None}


def left(answer: httpx.Response) -> int:
    """How many requests the first limit of an answer still allows."""
    [(name, (remaining, seconds)), *_] = items(STATE, answer.headers["ratelimit"]).items()
    quota, window = items(POLICY, answer.headers["ratelimit-policy"])[name]
    assert 0 <= remaining <= quota
    assert 1 <= seconds <= window
    return remaining


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        (DIVIDE, {"address": (600, 60)}),
        ("/v1/profile", {"caller": (600, 60)}),
        ("/v1/users/1", {"caller": (600, 60)}),
        ("/v1/products", {"address": (600, 60)}),
        ("/v1/products/987654321", {"address": (600, 60)}),
        ("/v1/orders", {"caller": (600, 60)}),
    ],
)
def test_a_limited_operation_declares_its_limit(
    service: Service, client: httpx.Client, path: str, policy: dict[str, tuple[int, int]]
) -> None:
    headers = bearer(token_for(service, make_account(service)))
    answer = client.get(path, headers=headers)
    assert items(POLICY, answer.headers["ratelimit-policy"]) == policy
    assert set(items(STATE, answer.headers["ratelimit"])) == set(policy)


def test_several_limits_form_one_list(client: httpx.Client) -> None:
    credentials = {"email": "nobody@concord.example", "password": "wrong"}
    answer = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    assert answer.status_code == 401
    declared = BUNDLE["paths"]["/v1/auth/token"]["post"]["x-rate-limit"]
    policies = {limit["name"]: (limit["limit"], limit["window"]) for limit in declared}
    assert len(policies) == 3
    assert items(POLICY, answer.headers["ratelimit-policy"]) == policies
    assert len(answer.headers.get_list("ratelimit-policy")) == 1
    # What is left of the account's tries is not told: it would say what others have done.
    assert list(items(STATE, answer.headers["ratelimit"])) == ["sign-ins", "sign-in-address"]


@pytest.mark.parametrize(
    "path",
    ["/health", "/health/ready", "/docs", "/openapi.json", "/problems", "/v1/currencies"],
)
def test_unlimited_operations_send_no_limit_headers(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert "ratelimit" not in answer.headers
    assert "ratelimit-policy" not in answer.headers


def test_each_address_is_counted_separately(client: httpx.Client) -> None:
    one, other = fresh_address(), fresh_address()
    assert [left(client.get(DIVIDE, headers=one)) for _ in range(3)] == [599, 598, 597]
    assert left(client.get(DIVIDE, headers=other)) == 599


def test_an_ipv6_network_counts_as_one_address(client: httpx.Client) -> None:
    senders = ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1")
    counts = [left(client.get(DIVIDE, headers={"X-Forwarded-For": each})) for each in senders]
    assert counts == [599, 598, 599]


def test_each_caller_is_counted_separately_at_any_address(
    service: Service, client: httpx.Client
) -> None:
    one, other = (bearer(token_for(service, make_account(service))) for _ in range(2))
    here, there = fresh_address(), fresh_address()
    counts = [
        left(client.get("/v1/profile", headers={**who, **where}))
        for who, where in ((one, here), (one, there), (other, here), (one, here))
    ]
    assert counts == [599, 598, 599, 597]


def test_each_operation_is_counted_separately(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    headers = bearer(token_for(service, user))
    for _ in range(2):
        client.get("/v1/profile", headers=headers)
    assert left(client.get(f"/v1/users/{user.id}", headers=headers)) == 599
    assert left(client.patch("/v1/profile", json={"name": "A"}, headers=headers)) == 599


def test_refused_requests_count_but_unauthenticated_ones_do_not(
    service: Service, client: httpx.Client
) -> None:
    address = fresh_address()
    for _ in range(2):
        assert left(client.get("/v1/divide?a=x", headers=address)) >= 598
    assert left(client.head(DIVIDE, headers=address)) == 597
    headers = bearer(token_for(service, make_account(service)))
    for forged in ({}, bearer("x"), bearer(headers["Authorization"][7:] + "x")):
        answer = client.get("/v1/profile", headers=forged)
        assert (answer.status_code, "ratelimit" in answer.headers) == (401, False)
    assert left(client.get("/v1/profile", headers=headers)) == 599


def test_an_exceeded_limit_sends_retry_after(client: httpx.Client) -> None:
    address, other = fresh_address(), fresh_address()
    for remaining in range(59, -1, -1):
        answer = client.post("/v1/users", content=b"", headers=address)
        assert (answer.status_code, left(answer)) == (422, remaining)
    for _ in range(2):
        answer = client.post("/v1/users", content=b"", headers=address)
        assert (answer.status_code, problem(answer)) == (429, "rate-limited")
        [(_, seconds)] = items(STATE, answer.headers["ratelimit"]).values()
        assert int(answer.headers["retry-after"]) == seconds <= 60
        assert str(seconds) in answer.json()["detail"]
        assert left(answer) == 0
        assert answer.headers["cache-control"] == "no-store"
    assert client.post("/v1/users", content=b"", headers=other).status_code == 422
    assert client.get(DIVIDE, headers=address).status_code == 200


def test_the_body_of_a_limited_request_is_not_awaited(client: httpx.Client) -> None:
    address = fresh_address()
    for _ in range(60):
        client.post("/v1/users", content=b"", headers=address)
    large = {**address, "Content-Length": "16000000", "Content-Type": "application/json"}
    answer = client.post("/v1/users", content=b" " * 16_000_000, headers=large)
    assert answer.status_code == 429
