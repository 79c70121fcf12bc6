"""Rate limits continue when a Redis replica replaces the primary at the same address (M22)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import httpx
import pytest
import redis

from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import make_account
from tests.live import HOST
from tests.models.relay import Relay, relay_to
from tests.servers.redis_server import follow, fresh_address, own_server
from tests.service import PASSWORD, Service, running

pytestmark = [pytest.mark.mission("M22"), pytest.mark.redis]

_LONGEST = 5.0
"""Maximum seconds until requests are counted again."""


@dataclass
class Shop:
    """A service that counts requests in a Redis server, which a replica can replace."""

    service: Service
    primary: redis.Redis
    replica: redis.Redis
    process: Popen[bytes]
    address: Relay

    def __post_init__(self) -> None:
        self._client = self.service.client(**{"X-Forwarded-For": fresh_address()})
        self._email = make_account(self.service).email

    def remaining(self) -> int | None:
        """Send a request, and return how many remain; None if the request was not counted."""
        answer = self._client.get("/v1/divide?a=1&b=1")
        assert answer.status_code == 200, answer.text
        found = answer.headers.get("ratelimit")
        return found and int(found.partition(";r=")[2].partition(";")[0])

    def wait_until_counted(self) -> int:
        until = time.monotonic() + _LONGEST
        while (found := self.remaining()) is None:
            assert time.monotonic() < until, "requests are not counted"
            time.sleep(0.05)
        return found

    def sign_in(self) -> httpx.Response:
        credentials = {"email": self._email, "password": PASSWORD}
        return self._client.post("/v1/auth/token", json=credentials)

    def promote(self) -> None:
        """Make the replica accept writes, and make the address lead to it."""
        self.replica.replicaof("NO", "ONE")
        self.address.lead_to(HOST, port_of(self.replica))


def port_of(client: redis.Redis) -> int:
    port: int = client.connection_pool.connection_kwargs["port"]
    return port


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with (
        own_server(tmp_path) as (primary, process),
        own_server(tmp_path) as (replica, _),
        make_database_url("sqlite", tmp_path) as database,
        relay_to(HOST, port_of(primary)) as address,
        running(tmp_path, database, REDIS_URL=f"redis://{HOST}:{address.port}/0") as service,
    ):
        follow(replica, primary)
        shop = Shop(service, primary, replica, process, address)
        assert [shop.remaining() for _ in range(3)] == [599, 598, 597]
        # WAIT waits for the writes of its own connection, and so for all earlier ones.
        primary.set("last", "write")
        assert primary.wait(1, 5000) == 1
        yield shop


def test_limits_continue_when_a_replica_takes_over_from_a_dead_primary(shop: Shop) -> None:
    shop.process.kill()
    shop.process.wait()
    assert shop.remaining() is None
    assert (shop.sign_in().status_code, problem(shop.sign_in())) == (503, "overloaded")
    shop.promote()
    assert shop.wait_until_counted() == 596
    assert shop.sign_in().status_code == 200


def test_connections_to_a_demoted_primary_are_replaced_at_once(shop: Shop) -> None:
    shop.promote()
    follow(shop.primary, shop.replica)
    assert [shop.remaining() for _ in range(3)] == [596, 595, 594]
    assert shop.sign_in().status_code == 200


def test_a_read_only_redis_counts_as_unavailable(shop: Shop) -> None:
    follow(shop.primary, shop.replica)
    assert shop.remaining() is None
    assert (shop.sign_in().status_code, problem(shop.sign_in())) == (503, "overloaded")
    shop.promote()
    assert shop.wait_until_counted() == 596
    assert shop.sign_in().status_code == 200
