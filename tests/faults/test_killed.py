"""The server is killed at any moment under load: what it acknowledged is there (M16, TRUST 31).

Fifty times, on each database half of them. Every request has its key, so that what was in the air
when the server died is resolved as a client would: by sending it again.
"""

import random
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.databases import KINDS, make_database_url
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import CURRENCY, Shop, open_shop, order_of, payment_of
from tests.live import HOST, free_port
from tests.models.books import check_books
from tests.models.feeds import check_replay, read_feed

pytestmark = [pytest.mark.mission("M16"), pytest.mark.timeout(600)]

KILLS, MOST_KILLS = 25, 75
"""Kills, and those until every action was acknowledged: a busy machine does little in a life."""
CUSTOMERS = 6
LONGEST_LIFE = 0.5
"""Seconds under load after which the server is dead for certain."""
RESERVATION_SECONDS = 1
SETTINGS = {"RESERVATION_SECONDS": str(RESERVATION_SECONDS)}
UNITS = 3
"""Units of each order, which are cancelled, shipped and returned one by one or together."""
ACTIONS = {"pay", "cancel", "reduce", "ship", "deliver", "refund", "return"}
"""What a customer has done to an order, by chance, where it is allowed."""
ERASURE = "erase"
EVERYTHING = {*ACTIONS, "create", ERASURE}
CLOSED = "closed"
"""A pending order of an erased customer: it was cancelled, unless it had expired."""
LATER = {"pending": {"expired"}, CLOSED: {"cancelled", "expired"}}
"""What becomes of orders without being told."""


@dataclass
class Step:
    """One request and its key. `order` is the one that it is about; a new one has none yet."""

    action: str
    url: str
    headers: dict[str, str]
    body: object = None
    order: str | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass
class Customer:
    """Somebody who orders, and sees to it that their orders go on, one request after the other.

    Now and then an administrator erases the account, and the customer goes on with a new one.
    """

    shop: Shop
    url: str
    user_id: int
    headers: dict[str, str]
    admin: dict[str, str]
    product: int
    chance: random.Random
    known: dict[str, Any] = field(default_factory=dict)
    """Each order, as it was last acknowledged."""
    lost: Step | None = None
    """The request whose answer never came."""
    done: set[str] = field(default_factory=set)
    """The actions that were acknowledged."""

    def act(self) -> None:
        """Go on until the server is gone."""
        with suppress(httpx.TransportError):
            while True:
                self.send(self.lost or self._next())

    def send(self, step: Step) -> None:
        """Send a request, and remember it until its answer is there."""
        self.lost = step
        if step.action == ERASURE:
            answer = self.shop.client.delete(step.url, headers=step.headers)
        else:
            answer = self.shop.post(step.url, step.headers, step.body, key=step.key)
        self.lost = None
        self._learn(step, answer)

    def _next(self) -> Step:
        if self.chance.random() < 0.02:
            return Step(ERASURE, f"{self.url}/v1/users/{self.user_id}", self.admin)
        possible = [
            (order, action)
            for order, told in self.known.items()
            for action in sorted(ACTIONS.intersection(told["allowed_actions"]))
            # What has ended is mostly left alone.
            if action != "pay" or told["status"] in {"pending", "expired"}
        ]
        if not possible or self.chance.random() < 0.3:
            body = order_of(self.product, UNITS) | {"note": "Ring twice."}
            return Step("create", f"{self.url}/v1/orders", self.headers, body)
        order, action = self.chance.choice(possible)
        url = f"{self.url}/v1/orders/{order}/{action}"
        return Step(action, url, self.admin, self._body(order, action), order)

    def _body(self, order: str, action: str) -> dict[str, object] | None:
        told = self.known[order]
        unit: dict[str, object] = {"lines": [{"product_id": self.product, "quantity": 1}]}
        part = unit if self.chance.random() < 0.5 else {}
        bodies: dict[str, dict[str, object]] = {
            "pay": payment_of(told["due"]["amount"] or told["total"]["amount"]),
            "reduce": unit,
            "ship": {"carrier": "Post", "tracking_number": "1"} | part,
            "return": {"restock": True} | part,
            "refund": {"amount": {"amount": 1, "currency": CURRENCY}} if part else {},
        }
        return bodies.get(action)

    def _learn(self, step: Step, answer: httpx.Response) -> None:
        if step.action == ERASURE:
            # The second time there is no such account any more.
            assert answer.status_code in (204, 404), answer.text
            for order in self.known.values():
                if order["status"] == "pending":
                    order.update(status=CLOSED, allowed_actions=[])
            self.user_id, self.headers = self.shop.person()
        elif answer.status_code == 409:
            # Time goes on for an order that nobody has paid, and only for such a one.
            told = answer.json()
            assert told["code"] == "illegal-transition", answer.text
            assert told["state"] == "expired", answer.text
            assert step.order is not None
            order = self.known[step.order]
            assert order["status"] == "pending"
            order.update(status="expired", allowed_actions=told["allowed_actions"])
        else:
            assert answer.status_code == (200 if step.order else 201), answer.text
            told = answer.json()
            self.known[told["id"]] = told
        self.done.add(step.action)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_server_loses_no_acknowledged_write(kind: str, tmp_path: Path) -> None:
    chance = random.Random(50)  # noqa: S311 - the same moments each time, not a secret.
    port = free_port()
    url = f"http://{HOST}:{port}"
    with make_database_url(kind, tmp_path) as database_url:
        with killed_server(tmp_path, port, database_url, **SETTINGS):
            pass
        with open_shop(database_url, tmp_path / "signing-key.pem", url) as shop:
            admin_id, admin = shop.person(admin=True)
            product = shop.product(100_000, admin_id)
            customers = [
                Customer(shop, url, *shop.person(), admin, product, random.Random(number))  # noqa: S311 - as above.
                for number in range(CUSTOMERS)
            ]
            for kills in range(MOST_KILLS):
                if kills >= KILLS and done_by(customers) == EVERYTHING:
                    break
                with killed_server(tmp_path, port, database_url, **SETTINGS) as server:
                    work_until_killed(server, customers, chance.uniform(0.02, LONGEST_LIFE))
                check_books(shop.database)
            with killed_server(tmp_path, port, database_url, **SETTINGS):
                resolve_what_was_lost(customers)
                time.sleep(RESERVATION_SECONDS + 3)
            assert_all_is_as_acknowledged(shop, customers)
            # The feed has each committed change once, and none that was rolled back.
            check_replay(shop.database, read_feed(shop.database))
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def work_until_killed(server: ForkServerProcess, customers: list[Customer], seconds: float) -> None:
    """Let everybody act, and kill the server while their requests are on their way."""
    threads = [threading.Thread(target=each.act) for each in customers]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    server.kill()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def done_by(customers: list[Customer]) -> set[str]:
    """The actions that were acknowledged."""
    return {action for each in customers for action in each.done}


def resolve_what_was_lost(customers: list[Customer]) -> None:
    """Send every request again whose answer never came."""
    for customer in customers:
        if customer.lost is not None:
            customer.send(customer.lost)


def assert_all_is_as_acknowledged(shop: Shop, customers: list[Customer]) -> None:
    """Every order is there, as its customer was told, and there is none that nobody knows of."""
    check_books(shop.database)
    stored = shop.statuses()
    known = {
        UUID(order): told["status"] for each in customers for order, told in each.known.items()
    }
    assert stored.keys() == known.keys()
    for order, status in known.items():
        assert stored[order] in {status, *LATER.get(status, ())}
    # What nobody paid for is not kept from others any more.
    assert "pending" not in stored.values()
    assert done_by(customers) == EVERYTHING, "too little was done for this to mean anything"
