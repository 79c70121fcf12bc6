"""An unpaid order expires and releases its stock once (M16, M24)."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.shopping import Shopper, lines, money, payment
from tests.databases import KINDS, make_database_url
from tests.factories import make_product
from tests.service import Service, running

pytestmark = pytest.mark.mission("M16")


@pytest.fixture(params=KINDS)
def impatient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service in which an order waits for a second."""
    with (
        make_database_url(request.param, tmp_path) as url,
        running(tmp_path, url, RESERVATION_SECONDS="1") as service,
    ):
        yield service


def test_an_order_expires_only_if_it_is_not_paid(impatient: Service) -> None:
    client = impatient.client()
    user, admin = Shopper(impatient, client), Shopper(impatient, client, admin=True)
    product = make_product(impatient.app.database, stock=3, price=10)
    left, part, paid = (
        user.post("/v1/orders", lines((product.id, 1))).json()["id"] for _ in range(3)
    )
    admin.act(paid, "pay", payment(10))
    admin.act(part, "pay", payment(4))
    deadline = time.monotonic() + 20
    while "pending" in (user.get(f"/v1/orders/{each}").json()["status"] for each in (left, part)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.get(f"/v1/products/{product.id}").json()["stock"]["available"] == 2
    events = user.get(f"/v1/orders/{left}/events").json()["items"]
    assert [(event["action"], event["actor_id"]) for event in events] == [
        ("create", user.id),
        ("expire", None),
    ]
    assert user.get(f"/v1/orders/{left}").json()["expires_at"] is None
    # What had been paid of it is not lost, and a late payment revives an order.
    assert user.get(f"/v1/orders/{part}").json()["unapplied"] == money(4)
    assert admin.act(left, "pay", payment(10)).json()["status"] == "paid"
    assert admin.act(part, "refund", {}).json()["refunded"] == money(4)
    assert user.get(f"/v1/orders/{paid}").json()["status"] == "paid"
