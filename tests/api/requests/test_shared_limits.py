"""Limits that several processes share in Redis, and the behaviour without Redis (M22)."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import fresh_email, make_account
from tests.models.relay import Relay, relay_to
from tests.servers.redis_server import fresh_address, no_server, require_redis, silent_server
from tests.service import PASSWORD, Service, running

pytestmark = pytest.mark.mission("M22")

DIVIDE = "/v1/divide?a=1&b=1"
TOKEN = "/v1/auth/token"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Service, Service]]:
    """Two services on one database that count in one Redis."""
    url = require_redis()
    with make_database_url("sqlite", tmp_path) as database, ExitStack() as both:
        one, other = (
            both.enter_context(running(tmp_path, database, REDIS_URL=url)) for _ in range(2)
        )
        yield one, other


@pytest.fixture
def behind_relay(tmp_path: Path) -> Iterator[tuple[Service, Relay]]:
    """A service whose way to Redis can be cut."""
    parts = urlsplit(require_redis())
    with (
        make_database_url("sqlite", tmp_path) as database,
        relay_to(parts.hostname or "127.0.0.1", parts.port or 6379) as way,
        running(
            tmp_path, database, REDIS_URL=f"redis://127.0.0.1:{way.port}{parts.path}"
        ) as service,
    ):
        yield service, way
        way.thaw()


def remaining(answer: httpx.Response) -> str:
    """What is left of the first limit."""
    return answer.headers["ratelimit"].partition(";r=")[2].partition(";")[0]


def sign_in(client: httpx.Client, email: str, password: str, address: str) -> httpx.Response:
    credentials = {"email": email, "password": password}
    return client.post(TOKEN, json=credentials, headers={"X-Forwarded-For": address})


@pytest.mark.redis
def test_processes_share_their_counters(pair: tuple[Service, Service]) -> None:
    one, other = (service.client() for service in pair)
    address = {"X-Forwarded-For": fresh_address()}
    counts = [remaining(each.get(DIVIDE, headers=address)) for each in (one, other, other, one)]
    assert counts == ["599", "598", "597", "596"]


@pytest.mark.redis
@pytest.mark.mission("M13")
def test_sign_in_attempts_are_counted_over_all_processes(pair: tuple[Service, Service]) -> None:
    one, other = (service.client() for service in pair)
    address, user = fresh_address(), make_account(pair[0])
    statuses = [
        sign_in(each, user.email, "wrong", address).status_code
        for each in (one, other, one, other, one)
    ]
    assert statuses == [401] * 5
    for each in (one, other):
        refused = sign_in(each, user.email, PASSWORD, address)
        assert (refused.status_code, problem(refused)) == (429, "rate-limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert sign_in(other, user.email, PASSWORD, fresh_address()).status_code == 200


@pytest.mark.redis
@pytest.mark.mission("M13")
def test_a_success_gives_its_try_back_to_all_processes(pair: tuple[Service, Service]) -> None:
    clients = [service.client() for service in pair]
    address, user = fresh_address(), make_account(pair[0])
    for _ in range(3):
        assert [sign_in(each, user.email, PASSWORD, address).status_code for each in clients] == [
            200,
            200,
        ]
    for _ in range(5):
        assert sign_in(clients[0], user.email, "wrong", address).status_code == 401
    assert sign_in(clients[1], user.email, PASSWORD, address).status_code == 429


@pytest.mark.redis
@pytest.mark.mission("M13")
def test_all_processes_know_an_address_that_signed_in(pair: tuple[Service, Service]) -> None:
    one, other = (service.client() for service in pair)
    email, home = f"x{time.time_ns()}-{fresh_email()}", fresh_address()
    make_account(pair[0], email=email)
    assert sign_in(one, email, PASSWORD, home).status_code == 200
    answers = [sign_in(one, email, "wrong", fresh_address()) for _ in range(21)]
    assert answers[-1].status_code == 429
    assert sign_in(other, email, PASSWORD, home).status_code == 200


@pytest.mark.parametrize("server", [no_server, silent_server], ids=["dead", "hung"])
def test_without_redis_orders_continue_and_sign_in_stays_closed(
    tmp_path: Path, server: Callable[[], AbstractContextManager[str]]
) -> None:
    with (
        server() as redis_url,
        make_database_url("sqlite", tmp_path) as database,
        running(tmp_path, database, REDIS_URL=redis_url) as service,
    ):
        client = service.client()
        for path in ("/health", "/health/ready"):
            assert client.get(path).status_code == 200
        for _ in range(3):
            began = time.monotonic()
            assert client.get(DIVIDE).json() == {"result": 1.0}
            assert time.monotonic() - began < 2
        created = client.post("/v1/users", json={"name": "Ada", "email": fresh_email()})
        assert created.status_code == 201
        began = time.monotonic()
        refused = sign_in(client, make_account(service).email, PASSWORD, fresh_address())
        assert time.monotonic() - began < 2
        assert (refused.status_code, problem(refused)) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", [DIVIDE, TOKEN])
def test_few_requests_wait_for_a_redis_that_hangs(tmp_path: Path, path: str) -> None:
    with (
        silent_server() as redis_url,
        make_database_url("sqlite", tmp_path) as database,
        running(tmp_path, database, REDIS_URL=redis_url) as service,
    ):
        client, times = service.client(), []
        for _ in range(20):
            began = time.monotonic()
            if path == DIVIDE:
                assert client.get(path).status_code == 200
            else:
                assert sign_in(client, "a@b.example", PASSWORD, fresh_address()).status_code == 503
            times.append(time.monotonic() - began)
    # One request asks every two seconds.
    assert sum(each > 0.2 for each in times) <= 1 + sum(times) / 2


@pytest.mark.redis
def test_limits_are_counted_again_once_redis_is_back(behind_relay: tuple[Service, Relay]) -> None:
    service, way = behind_relay
    client, address = service.client(), {"X-Forwarded-For": fresh_address()}
    assert remaining(client.get(DIVIDE, headers=address)) == "599"
    way.freeze()
    assert client.get(DIVIDE, headers=address).status_code == 200
    way.thaw()
    until = time.monotonic() + 5
    while "ratelimit" not in (answer := client.get(DIVIDE, headers=address)).headers:
        assert answer.status_code == 200
        assert time.monotonic() < until
    user = make_account(service)
    assert sign_in(client, user.email, PASSWORD, fresh_address()).status_code == 200


def test_health_does_not_depend_on_redis(tmp_path: Path) -> None:
    with (
        silent_server() as redis_url,
        make_database_url("sqlite", tmp_path) as database,
        running(tmp_path, database, REDIS_URL=redis_url) as service,
    ):
        client = service.client()
        began = time.monotonic()
        for _ in range(10):
            assert client.get("/health").status_code == 200
        assert time.monotonic() - began < 2
