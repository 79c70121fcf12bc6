"""A shop whose PostgreSQL server is lost: the service finds the standby that takes its place."""

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from api.server.settings import Settings
from tests.api.commands import make_run
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import Shop, open_shop, order_of
from tests.live import HOST, free_port
from tests.models.books import check_books
from tests.postgresql_pair import running_pair

BUYERS = 4
LONGEST, PATIENCE = 15.0, 60.0
"""Most seconds for a response, which are the limits of waiting together, and for all to go on."""

pytestmark = pytest.mark.mission("M32")


class Buyers:
    """Customers who order until told to stop, and repeat with the same key what fails."""

    def __init__(self, shop: Shop, url: str, product: int) -> None:
        self.orders: dict[str, UUID] = {}
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self.enough = threading.Event()
        self._shop, self._url, self._body = shop, f"{url}/v1/orders", order_of(product)
        self._people = [shop.person()[1] for _ in range(BUYERS)]

    def work(self, number: int) -> None:
        """Order as one of them."""
        until = time.monotonic() + 2 * PATIENCE
        for count in itertools.count():
            key = f"order-{number}-{count}"
            while (order := self._order(number, key)) is None:
                assert time.monotonic() < until, self.statuses
                time.sleep(0.05)
            self.orders[key] = order
            if self.enough.is_set():
                break

    def _order(self, number: int, key: str) -> UUID | None:
        began = time.monotonic()
        answer = self._shop.post(self._url, self._people[number], self._body, key=key)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[answer.status_code] += 1
        # 409: the first request with this key has not ended.
        assert answer.status_code in {201, 409, 503}, answer.text
        return UUID(answer.json()["id"]) if answer.status_code == 201 else None

    def wait_for(self, status: int, more: int) -> None:
        """Wait until so many more responses have a status."""
        until, enough = time.monotonic() + PATIENCE, self.statuses[status] + more
        while self.statuses[status] < enough:
            assert time.monotonic() < until, self.statuses
            time.sleep(0.01)


def test_a_failover_loses_and_doubles_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    url = f"http://{HOST}:{port}"
    with running_pair(tmp_path) as pair:
        database_url = Settings(database_url=pair.url).database_url
        run = make_run(tmp_path, monkeypatch)
        assert run("migrate", DATABASE_URL=pair.url).exit_code == 0
        with (
            killed_server(tmp_path, port, pair.url),
            open_shop(database_url, tmp_path / "signing-key.pem", url) as shop,
            ThreadPoolExecutor(BUYERS) as pool,
        ):
            buyers = Buyers(shop, url, shop.product(10_000, shop.person(admin=True)[0]))
            working = [pool.submit(buyers.work, number) for number in range(BUYERS)]
            try:
                buyers.wait_for(201, 20)
                pair.stop(0)
                buyers.wait_for(503, 5)
                assert shop.client.get(f"{url}/health").status_code == 200
                pair.promote()
                buyers.wait_for(201, 20)
            finally:
                buyers.enough.set()
            for each in working:
                each.result()
            assert buyers.slowest < LONGEST
            found = shop.statuses()
            assert found.keys() == set(buyers.orders.values())
            assert len(found) == len(buyers.orders)
            check_books(shop.database)
            assert "database  ok " in run("check", DATABASE_URL=pair.url).output
