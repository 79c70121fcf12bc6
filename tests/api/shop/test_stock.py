"""Stock over HTTP: adjusted by administrators, and every change in the ledger (M16)."""

import httpx
import pytest

from tests.api.answers import problem
from tests.api.shopping import SHIPMENT, Shopper, lines, payment
from tests.factories import make_product
from tests.service import Service

pytestmark = pytest.mark.mission("M16")


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


@pytest.fixture
def url(service: Service) -> str:
    product = make_product(service.app.database, stock=0)
    return f"/v1/products/{product.id}"


def adjust(admin: Shopper, url: str, quantity: int) -> httpx.Response:
    body = {"quantity": quantity, "reason": "stocktaking"}
    return admin.post(f"{url}/stock-adjustments", body)


def on_hand(admin: Shopper, url: str) -> int:
    return int(admin.get(url).json()["stock"]["on_hand"])


@pytest.mark.mission("M5")
def test_an_adjustment_is_a_readable_entry(admin: Shopper, url: str) -> None:
    made = adjust(admin, url, 7)
    assert made.status_code == 201
    entry = made.json()
    assert entry == {
        "id": entry["id"],
        "product_id": int(url.rpartition("/")[2]),
        "kind": "adjustment",
        "on_hand": 7,
        "reserved": 0,
        "order_id": None,
        "actor_id": admin.id,
        "reason": "stocktaking",
        "created_at": entry["created_at"],
    }
    place = made.headers["location"].removeprefix("http://concord.example")
    assert place == f"{url}/stock-adjustments/{entry['id']}"
    assert admin.get(place).json() == entry
    assert adjust(admin, url, -2).json()["on_hand"] == -2
    assert on_hand(admin, url) == 5


def test_an_entry_belongs_to_its_product(service: Service, admin: Shopper, url: str) -> None:
    entry = adjust(admin, url, 1).json()
    other = make_product(service.app.database)
    missing = admin.get(f"/v1/products/{other.id}/stock-adjustments/{entry['id']}")
    assert (missing.status_code, problem(missing)) == (404, "not-found")


def test_reserved_stock_cannot_be_removed(service: Service, client: httpx.Client, url: str) -> None:
    admin, user = Shopper(service, client, admin=True), Shopper(service, client)
    adjust(admin, url, 5)
    user.post("/v1/orders", lines((int(url.rpartition("/")[2]), 3)))
    refused = adjust(admin, url, -3)
    assert (refused.status_code, problem(refused)) == (409, "stock-out-of-range")
    assert on_hand(admin, url) == 5
    assert adjust(admin, url, -2).status_code == 201


def test_an_adjustment_is_bounded_and_not_zero(admin: Shopper, url: str) -> None:
    refused = adjust(admin, url, 1_000_001)
    assert (refused.status_code, problem(refused)) == (422, "invalid-body")
    assert adjust(admin, url, -1).status_code == 409
    none = adjust(admin, url, 0)
    assert none.status_code == 422
    assert none.json()["errors"] == [
        {"pointer": "/quantity", "code": "rule", "message": "must not be 0"}
    ]


def test_the_ledger_is_complete_and_adds_up(
    service: Service, client: httpx.Client, url: str
) -> None:
    admin, user = Shopper(service, client, admin=True), Shopper(service, client)
    number = int(url.rpartition("/")[2])
    adjust(admin, url, 10)
    first = user.post("/v1/orders", lines((number, 4))).json()
    second = user.post("/v1/orders", lines((number, 1))).json()
    user.act(second["id"], "cancel")
    admin.act(first["id"], "pay", payment(first["total"]["amount"]))
    admin.act(first["id"], "ship", SHIPMENT)
    back = [{"product_id": number, "quantity": 2}]
    admin.act(first["id"], "refund", {"restock": back})
    entries: list[dict[str, object]] = []
    page = f"{url}/stock-adjustments?limit=4"
    while page:
        answer = admin.get(page)
        entries += answer.json()["items"]
        page = answer.links.get("next", {}).get("url", "").removeprefix("http://concord.example")
    assert [(each["kind"], each["on_hand"], each["reserved"]) for each in entries] == [
        ("adjustment", 10, 0),
        ("reservation", 0, 4),
        ("reservation", 0, 1),
        ("release", 0, -1),
        ("shipment", -4, -4),
        ("return", 2, 0),
    ]
    assert [each["actor_id"] for each in entries] == [
        *(admin.id, user.id, user.id, user.id, admin.id, admin.id),
    ]
    assert entries[1]["order_id"] == entries[4]["order_id"] == first["id"]
    assert admin.get(url).json()["stock"] == {"on_hand": 8, "reserved": 0, "available": 8}
