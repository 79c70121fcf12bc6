"""Many who want the same at the same moment, of two real processes, on both databases (M16, M25).

What is counted is what the clients were told; what is audited is what the database then holds.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.databases import KINDS, make_database_url
from tests.faults.live_shop import PRICE, Shop, at_once, open_shop, order_of, payment_of
from tests.live import running_server
from tests.models.books import check_books

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M25"), pytest.mark.timeout(300)]

RESERVATION_SECONDS = 2


@dataclass
class Rush:
    """Two processes that serve one shop, and an administrator of it."""

    shop: Shop
    url: str
    admin_id: int
    admin: dict[str, str]

    def orders(self) -> str:
        return f"{self.url}/v1/orders"

    def buy(self, headers: dict[str, str], product: int, quantity: int = 1) -> str:
        """Place an order that has to succeed, and give its address."""
        answer = self.shop.post(self.orders(), headers, order_of(product, quantity))
        assert answer.status_code == 201, answer.text
        return f"{self.orders()}/{answer.json()['id']}"

    def buy_paid(self, headers: dict[str, str], product: int, quantity: int = 1) -> str:
        order = self.buy(headers, product, quantity)
        paid = self.shop.post(f"{order}/pay", self.admin, payment_of(PRICE * quantity))
        assert paid.json()["status"] == "paid", paid.text
        return order


@contextmanager
def two_processes(kind: str, folder: Path, **settings: str) -> Iterator[Rush]:
    """Serve a shop by two processes until the block ends, and then look at its books."""
    key = folder / "signing-key.pem"
    environment = {"APP_ENV": "test", "SIGNING_KEY_FILE": str(key), "WORKERS": "2", **settings}
    with (
        make_database_url(kind, folder) as url,
        running_server(folder, DATABASE_URL=url, **environment) as server,
        open_shop(url, key, server.url) as shop,
    ):
        admin_id, admin = shop.person(admin=True)
        yield Rush(shop, server.url, admin_id, admin)
        check_books(shop.database)


@pytest.fixture(scope="module", params=KINDS)
def rush(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rush]:
    with two_processes(request.param, tmp_path_factory.mktemp("rush")) as rush:
        yield rush


@pytest.fixture(params=KINDS)
def impatient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rush]:
    """A shop in which nobody waits long for money."""
    seconds = {"RESERVATION_SECONDS": str(RESERVATION_SECONDS)}
    with two_processes(request.param, tmp_path, **seconds) as rush:
        yield rush


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def test_two_hundred_buyers_get_exactly_fifty_units(rush: Rush) -> None:
    product = rush.shop.product(50, rush.admin_id)
    buyers = [rush.shop.person()[1] for _ in range(200)]
    answers = at_once(
        [partial(rush.shop.post, rush.orders(), buyer, order_of(product)) for buyer in buyers],
        threads=200,
    )
    assert statuses(answers) == {201: 50, 409: 150}
    refused = [answer.json() for answer in answers if answer.status_code == 409]
    assert {problem["code"] for problem in refused} == {"out-of-stock"}
    assert refused[0]["shortages"] == [
        {"pointer": "/lines/0", "product_id": product, "wanted": 1, "available": 0}
    ]
    sold = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(sold) == 50
    check_books(rush.shop.database)


def test_one_key_makes_one_order_however_often_it_is_sent(rush: Rush) -> None:
    product = rush.shop.product(100, rush.admin_id)
    _, buyer = rush.shop.person()
    send = partial(rush.shop.post, rush.orders(), buyer, order_of(product), key="only-once")
    answers = at_once([send] * 50, threads=50)
    assert set(statuses(answers)) <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    refused = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert refused <= {"idempotency-in-flight"}
    again = send()
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    listed = rush.shop.client.get(rush.orders(), headers=buyer).json()["items"]
    assert [order["id"] for order in listed] == [again.json()["id"]]
    check_books(rush.shop.database)


def test_concurrent_refunds_never_exceed_the_payments(rush: Rush) -> None:
    product = rush.shop.product(10, rush.admin_id)
    order = rush.buy_paid(rush.shop.person()[1], product, 10)
    body = {"amount": {"amount": PRICE, "currency": "EUR"}}
    answers = at_once([partial(rush.shop.post, f"{order}/refund", rush.admin, body)] * 50)
    assert statuses(answers) == {200: 10, 409: 40}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"refund-exceeds-paid", "illegal-transition"}
    now = rush.shop.client.get(order, headers=rush.admin).json()
    assert (now["status"], now["refunded"]["amount"]) == ("refunded", 10 * PRICE)
    check_books(rush.shop.database)


@pytest.mark.mission("M28")
def test_concurrent_returns_never_exceed_the_shipments(rush: Rush) -> None:
    product = rush.shop.product(10, rush.admin_id)
    order = rush.buy_paid(rush.shop.person()[1], product, 10)
    shipment = {"carrier": "Post", "tracking_number": "1"}
    assert rush.shop.post(f"{order}/ship", rush.admin, shipment).status_code == 200
    unit = [{"product_id": product, "quantity": 1}]
    back = partial(rush.shop.post, f"{order}/return", rush.admin, {"lines": unit, "restock": True})
    money = {"amount": {"amount": 1, "currency": "EUR"}, "restock": unit}
    refund = partial(rush.shop.post, f"{order}/refund", rush.admin, money)
    answers = at_once([back, refund] * 10)
    assert statuses(answers) == {200: 10, 409: 10}
    now = rush.shop.client.get(order, headers=rush.admin).json()
    assert (now["lines"][0]["returned"], now["status"]) == (10, "shipped")
    assert "return" not in now["allowed_actions"]
    check_books(rush.shop.database)


def test_an_order_is_either_shipped_or_cancelled(rush: Rush) -> None:
    product = rush.shop.product(20, rush.admin_id)
    _, buyer = rush.shop.person()
    shipment = {"carrier": "Post", "tracking_number": "1"}
    for _ in range(20):
        order = rush.buy_paid(buyer, product)
        ship = partial(rush.shop.post, f"{order}/ship", rush.admin, shipment)
        cancel = partial(rush.shop.post, f"{order}/cancel", buyer)
        answers = at_once([ship, cancel])
        assert statuses(answers) == {200: 1, 409: 1}
        (done,) = [answer.json()["status"] for answer in answers if answer.status_code == 200]
        assert rush.shop.client.get(order, headers=buyer).json()["status"] == done
    check_books(rush.shop.database)


@pytest.mark.mission("M28")
def test_a_unit_is_either_shipped_or_cancelled(rush: Rush) -> None:
    product = rush.shop.product(20, rush.admin_id)
    order = rush.buy_paid(rush.shop.person()[1], product, 20)
    unit = {"lines": [{"product_id": product, "quantity": 1}]}
    shipment = {"carrier": "Post", "tracking_number": "1"}
    ship = partial(rush.shop.post, f"{order}/ship", rush.admin, shipment | unit)
    reduce = partial(rush.shop.post, f"{order}/reduce", rush.admin, unit)
    answers = at_once([ship, reduce] * 15)
    assert statuses(answers) == {200: 20, 409: 10}
    now = rush.shop.client.get(order, headers=rush.admin).json()
    (line,) = now["lines"]
    assert (now["status"], line["shipped"]) == ("shipped", line["quantity"])
    assert now["unapplied"]["amount"] == PRICE * (20 - line["quantity"])
    check_books(rush.shop.database)


@pytest.mark.mission("M28")
def test_an_erasure_meets_everything_done_to_open_orders(rush: Rush) -> None:
    product = rush.shop.product(200, rush.admin_id)
    unit = {"lines": [{"product_id": product, "quantity": 1}]}
    shipment = {"carrier": "Post", "tracking_number": "1"}
    note = {"note": "Ring twice."}
    for _ in range(6):
        user_id, buyer = rush.shop.person()
        pending, paid = rush.buy(buyer, product, 3), rush.buy_paid(buyer, product, 3)
        for order in (pending, paid):
            rush.shop.client.patch(order, json=note, headers=buyer)
        works = [
            partial(rush.shop.client.delete, f"{rush.url}/v1/users/{user_id}", headers=rush.admin),
            partial(rush.shop.client.patch, paid, json=note, headers=rush.admin),
            partial(rush.shop.post, rush.orders(), buyer, order_of(product) | note),
            partial(rush.shop.post, f"{pending}/pay", rush.admin, payment_of(3 * PRICE)),
            partial(rush.shop.post, f"{pending}/reduce", rush.admin, unit),
            partial(rush.shop.post, f"{paid}/reduce", rush.admin, unit),
            partial(rush.shop.post, f"{paid}/ship", rush.admin, shipment | unit),
            partial(rush.shop.post, f"{paid}/refund", rush.admin, {}),
        ]
        erased, *answers = at_once(works)
        assert erased.status_code == 204
        assert set(statuses(answers)) <= {200, 201, 401, 409}
        mine = f"{rush.orders()}?user_id={user_id}"
        left = rush.shop.client.get(mine, headers=rush.admin).json()["items"]
        # What was placed in time was cancelled with the rest, and what has ended tells nothing.
        assert {order["status"] for order in left} <= {"cancelled", "paid", "refunded"}
        assert {order["note"] for order in left if order["status"] != "paid"} <= {None}
        assert not any("update" in order["allowed_actions"] for order in left)
    check_books(rush.shop.database)


@pytest.mark.mission("M28")
def test_payments_at_once_are_recorded_once_each(rush: Rush) -> None:
    product = rush.shop.product(10, rush.admin_id)
    order = rush.buy(rush.shop.person()[1], product, 10)
    bodies = [payment_of(3 * PRICE) for _ in range(5)] * 4
    works = [partial(rush.shop.post, f"{order}/pay", rush.admin, body) for body in bodies]
    answers = at_once(works)
    assert statuses(answers) == {200: 5, 409: 15}
    now = rush.shop.client.get(order, headers=rush.admin).json()
    assert (now["status"], now["unapplied"]["amount"]) == ("paid", 5 * PRICE)
    bounces = [{key: body[key] for key in ("method", "reference")} for body in bodies[:5]] * 2
    works = [partial(rush.shop.post, f"{order}/bounce", rush.admin, body) for body in bounces]
    assert statuses(at_once(works)) == {200: 5, 409: 5}
    now = rush.shop.client.get(order, headers=rush.admin).json()
    assert (now["status"], now["paid"]["amount"]) == ("pending", 0)
    check_books(rush.shop.database)


def test_a_payment_is_never_lost_to_the_expiry(impatient: Rush) -> None:
    product = impatient.shop.product(24, impatient.admin_id)
    _, buyer = impatient.shop.person()
    orders = [impatient.buy(buyer, product) for _ in range(24)]
    began = time.monotonic()

    def pay(order: str, delay: float) -> httpx.Response:
        time.sleep(max(0.0, began + delay - time.monotonic()))
        return impatient.shop.post(f"{order}/pay", impatient.admin, payment_of(PRICE))

    # The payments come from just before the first order expires until all of them have.
    moments = [RESERVATION_SECONDS - 0.3 + index * 0.06 for index in range(len(orders))]
    works = [partial(pay, order, moment) for order, moment in zip(orders, moments, strict=True)]
    answers = at_once(works, threads=len(works))
    assert statuses(answers) == {200: len(works)}
    for order in orders:
        status = impatient.shop.client.get(order, headers=buyer).json()["status"]
        assert status == "paid"
        events = impatient.shop.client.get(f"{order}/events", headers=buyer).json()["items"]
        # The stock of an expired order is still there, so that its payment revives it.
        assert [event["action"] for event in events[1:]] in (["pay"], ["expire", "pay"])
    check_books(impatient.shop.database)


def test_one_of_concurrent_changes_to_one_version_succeeds(rush: Rush) -> None:
    product = rush.shop.product(1, rush.admin_id)
    _, buyer = rush.shop.person()
    order = rush.buy_paid(buyer, product)
    tag = rush.shop.client.get(order, headers=buyer).headers["etag"]

    def change(number: int) -> httpx.Response:
        headers = {**buyer, "If-Match": tag}
        return rush.shop.client.patch(order, json={"note": f"{number}"}, headers=headers)

    answers = at_once([partial(change, number) for number in range(20)])
    assert statuses(answers) == {200: 1, 412: 19}
    (made,) = [answer.json()["note"] for answer in answers if answer.status_code == 200]
    assert rush.shop.client.get(order, headers=buyer).json()["note"] == made
    check_books(rush.shop.database)
