"""Customers who go on ordering while something fails, and repeat what was refused."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import httpx

from tests.faults.live_shop import Shop, order_of

PATIENCE = 60.0
"""Most seconds until what was refused succeeds."""
NO_RESPONSE = 0
"""Stands for the status where the connection broke."""


@dataclass
class Buyers:
    """Threads that order, each for several people in turn, because of the limits of each."""

    shop: Shop
    url: str
    threads: int
    people: int
    refusals: Collection[int]
    """Statuses after which an order is repeated with the same key; any other is a failure."""
    orders: dict[str, UUID] = field(default_factory=dict)
    """The confirmed orders by key."""
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    """The longest time in seconds until a response."""

    def __post_init__(self) -> None:
        """Open the shop."""
        self._before = self.shop.statuses().keys()
        self.product = self.shop.product(1_000_000, self.shop.person(admin=True)[0])
        self._body = order_of(self.product)
        self._people = [self.shop.person()[1] for _ in range(self.people)]
        self._enough = threading.Event()

    @contextmanager
    def ordering(self) -> Iterator[None]:
        """Order while the block runs, and end with everything confirmed."""
        with ThreadPoolExecutor(self.threads) as pool:
            working = [pool.submit(self._work, number) for number in range(self.threads)]
            try:
                yield
            finally:
                self._enough.set()
            for each in working:
                each.result()

    def wait_for(self, status: int, more: int) -> None:
        """Wait until so many more responses have a status."""
        until, enough = time.monotonic() + PATIENCE, self.statuses[status] + more
        while self.statuses[status] < enough:
            assert time.monotonic() < until, self.statuses
            time.sleep(0.01)

    def lost_and_doubled(self) -> tuple[int, int]:
        """Count the confirmed orders that the database does not have, and those without a key."""
        known = set(self.orders.values())
        found = self.shop.statuses().keys() - self._before
        return len(known - found), len(found - known) + len(self.orders) - len(known)

    def _work(self, number: int) -> None:
        for count in itertools.count():
            key, until = f"order-{id(self)}-{number}-{count}", time.monotonic() + PATIENCE
            headers = self._people[(number + count * self.threads) % len(self._people)]
            while (order := self._order(headers, key)) is None:
                assert time.monotonic() < until, self.statuses
                time.sleep(0.05)
            self.orders[key] = order
            if self._enough.is_set():
                break

    def _order(self, headers: dict[str, str], key: str) -> UUID | None:
        began, told = time.monotonic(), ""
        try:
            answer = self.shop.post(f"{self.url}/v1/orders", headers, self._body, key=key)
        except httpx.TransportError:
            status, order = NO_RESPONSE, None
        else:
            status, told = answer.status_code, answer.text
            order = UUID(answer.json()["id"]) if status == httpx.codes.CREATED else None
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[status] += 1
        assert order is not None or status in self.refusals, told
        return order
