"""Orders over HTTP: placed, read and updated by their owners, and by nobody else (M16, M18)."""

import re
import uuid
from datetime import datetime, timedelta

import httpx
import pytest

from models.catalogue.product import Product
from tests.api.answers import comparable, problem
from tests.api.shopping import Shopper, lines, money, payment
from tests.factories import make_order, make_product
from tests.service import Service

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M18")]

ADDRESS = {"name": "Ada Lovelace", "line1": "12 St James's Square", "city": "Ulm", "country": "DE"}


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


@pytest.fixture
def user(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client)


@pytest.fixture
def product(service: Service) -> Product:
    return make_product(service.app.database, stock=10, price=1999, name="Mug")


@pytest.mark.mission("M5")
def test_an_order_keeps_the_prices_and_names_of_its_creation(
    user: Shopper, admin: Shopper, product: Product, service: Service
) -> None:
    other = make_product(service.app.database, price=1)
    details = {"note": "Ring twice.", "shipping_address": ADDRESS, "metadata": {"gift": "yes"}}
    made = user.post("/v1/orders", lines((product.id, 2), (other.id, 3)) | details)
    assert made.status_code == 201
    order = made.json()
    assert made.headers["location"] == f"http://concord.example/v1/orders/{order['id']}"
    assert made.headers["etag"] == '"1"'
    assert order == details | {
        "id": order["id"],
        "user_id": user.id,
        "status": "pending",
        "allowed_actions": ["update", "pay", "cancel", "reduce"],
        "lines": [
            {
                "product_id": each.id,
                "sku": each.sku,
                "name": each.name,
                "unit_price": money(each.price_amount),
                "quantity": quantity,
                "total": money(each.price_amount * quantity),
                "shipped": 0,
                "returned": 0,
            }
            for each, quantity in ((product, 2), (other, 3))
        ],
        "total": money(2 * 1999 + 3),
        "paid": money(0),
        "refunded": money(0),
        "unapplied": money(0),
        "due": money(2 * 1999 + 3),
        "expires_at": order["expires_at"],
        "created_at": order["created_at"],
        "updated_at": order["updated_at"],
    }
    admin.patch(f"/v1/products/{product.id}", {"name": "Dear mug", "price": money(9999)})
    assert user.get(f"/v1/orders/{order['id']}").json() == order


def test_reservation_and_id_reflect_the_time_of_creation(user: Shopper, product: Product) -> None:
    order = user.post("/v1/orders", lines((product.id, 1))).json()
    made, until = (datetime.fromisoformat(order[name]) for name in ("created_at", "expires_at"))
    assert timedelta(minutes=29) < until - made < timedelta(minutes=31)
    assert uuid.UUID(order["id"]).version == 7
    assert uuid.UUID(order["id"]).int >> 80 == round(made.timestamp() * 1000)


def test_nothing_is_reserved_if_stock_is_short(
    user: Shopper, product: Product, service: Service, client: httpx.Client
) -> None:
    scarce = make_product(service.app.database, stock=2)
    refused = user.post("/v1/orders", lines((product.id, 1), (scarce.id, 3)))
    assert (refused.status_code, problem(refused)) == (409, "out-of-stock")
    assert refused.json()["shortages"] == [
        {"pointer": "/lines/1", "product_id": scarce.id, "wanted": 3, "available": 2}
    ]
    assert client.get(f"/v1/products/{product.id}").json()["stock"]["reserved"] == 0


@pytest.mark.mission("M28")
def test_an_order_at_another_total_than_expected_is_refused(
    service: Service, user: Shopper, admin: Shopper
) -> None:
    product = make_product(service.app.database, price=1000, stock=5)
    body = lines((product.id, 2)) | {"expected_total": money(2000)}
    assert user.post("/v1/orders", body).status_code == 201
    admin.patch(f"/v1/products/{product.id}", {"price": money(1100)})
    refused = user.post("/v1/orders", body)
    assert (refused.status_code, problem(refused)) == (409, "price-changed")
    assert refused.json()["total"] == money(2200)
    assert refused.json()["prices"] == [{"product_id": product.id, "unit_price": money(1100)}]
    other = user.post("/v1/orders", body | {"expected_total": money(2200, "USD")})
    assert (other.status_code, problem(other)) == (409, "price-changed")
    assert user.get(f"/v1/products/{product.id}").json()["stock"]["reserved"] == 2


@pytest.mark.parametrize("unknown", ["never made", "inactive", "archived"])
def test_products_that_cannot_be_ordered_are_named_by_line(
    user: Shopper, admin: Shopper, product: Product, service: Service, unknown: str
) -> None:
    other = make_product(service.app.database)
    number = other.id
    if unknown == "never made":
        number = 2**62
    elif unknown == "inactive":
        admin.patch(f"/v1/products/{number}", {"active": False})
    else:
        admin.delete(f"/v1/products/{number}")
    refused = user.post("/v1/orders", lines((product.id, 1), (number, 1)))
    assert (refused.status_code, problem(refused)) == (422, "unknown-product")
    assert [each["pointer"] for each in refused.json()["errors"]] == ["/lines/1/product_id"]
    assert str(2**62) not in refused.text


def test_lines_have_one_currency_and_distinct_products(
    user: Shopper, product: Product, service: Service
) -> None:
    yen = make_product(service.app.database, currency="JPY")
    mixed = user.post("/v1/orders", lines((product.id, 1), (yen.id, 1)))
    assert (mixed.status_code, problem(mixed)) == (422, "mixed-currencies")
    assert [each["pointer"] for each in mixed.json()["errors"]] == ["/lines/1/product_id"]
    twice = user.post("/v1/orders", lines((product.id, 1), (product.id, 2)))
    assert (twice.status_code, problem(twice)) == (422, "invalid-body")
    assert [each["pointer"] for each in twice.json()["errors"]] == ["/lines/1/product_id"]


def test_an_order_has_at_most_a_hundred_lines(user: Shopper, service: Service) -> None:
    products = [make_product(service.app.database).id for _ in range(101)]
    made = user.post("/v1/orders", lines(*((each, 1) for each in products[:100])))
    assert [each["product_id"] for each in made.json()["lines"]] == products[:100]
    refused = user.post("/v1/orders", lines(*((each, 1) for each in products)))
    assert (refused.status_code, problem(refused)) == (422, "invalid-body")


def test_a_total_beyond_exact_doubles_is_refused(user: Shopper, service: Service) -> None:
    dear = make_product(service.app.database, price=999_999_999_999, stock=100_000)
    refused = user.post("/v1/orders", lines((dear.id, 100_000)))
    assert (refused.status_code, problem(refused)) == (422, "invalid-body")
    assert [each["pointer"] for each in refused.json()["errors"]] == ["/lines"]
    assert user.post("/v1/orders", lines((dear.id, 9007))).status_code == 201


def test_a_free_order_is_paid_from_the_start(user: Shopper, service: Service) -> None:
    gift = make_product(service.app.database, price=0)
    order = user.post("/v1/orders", lines((gift.id, 1))).json()
    assert (order["status"], order["expires_at"]) == ("paid", None)


def test_another_users_order_looks_missing(
    service: Service, client: httpx.Client, user: Shopper, product: Product
) -> None:
    order = user.post("/v1/orders", lines((product.id, 1))).json()
    stranger = Shopper(service, client)
    missing = "01890a5d-ac96-774b-bcce-b302099a8057"

    def ask(method: str, order: str, action: str) -> httpx.Response:
        url = f"/v1/orders/{order}{action}"
        if method == "GET":
            return stranger.get(url)
        return stranger.patch(url, {"note": "mine"}) if method == "PATCH" else stranger.post(url)

    for method, action in (("GET", ""), ("GET", "/events"), ("PATCH", ""), ("POST", "/cancel")):
        foreign, absent = (comparable(ask(method, each, action)) for each in (order["id"], missing))
        assert foreign.status == 404
        assert foreign == absent
    assert user.get(f"/v1/orders/{order['id']}").json() == order


@pytest.mark.parametrize(
    "order_id",
    ["1", "01890A5D-AC96-774B-BCCE-B302099A8057", "b25e7a1e-1d3c-4b7e-9a53-0d7a3f1c2b4d"],
)
def test_an_invalid_order_id_is_not_found(user: Shopper, order_id: str) -> None:
    answer = user.get(f"/v1/orders/{order_id}")
    assert (answer.status_code, problem(answer)) == (404, "not-found")


def test_users_cannot_record_payments_or_shipments(user: Shopper, product: Product) -> None:
    order = user.post("/v1/orders", lines((product.id, 1))).json()
    for action, body in (("pay", payment(1999)), ("deliver", None), ("refund", {})):
        refused = user.act(order["id"], action, body)
        assert (refused.status_code, problem(refused)) == (403, "not-permitted")


@pytest.mark.mission("M23")
def test_details_can_be_changed_while_the_state_allows_it(service: Service, user: Shopper) -> None:
    order = make_order(service.app.database, buyer=user.person, note="Old.")
    url = f"/v1/orders/{order.id}"
    tag = user.get(url).headers["etag"]
    changed = user.patch(url, {"shipping_address": ADDRESS}, **{"If-Match": tag})
    assert (changed.json()["note"], changed.json()["shipping_address"]) == ("Old.", ADDRESS)
    late = user.patch(url, {"note": None}, **{"If-Match": tag})
    assert (late.status_code, problem(late)) == (412, "version-mismatch")
    assert user.patch(url, {"note": None, "shipping_address": None}).json()["note"] is None
    assert user.patch(url, {"lines": []}).status_code == 422
    shipped = make_order(service.app.database, buyer=user.person, status="shipped")
    refused = user.patch(f"/v1/orders/{shipped.id}", {"note": "Too late."})
    assert (refused.status_code, problem(refused)) == (409, "illegal-transition")
    assert refused.json()["state"] == "shipped"
    assert refused.json()["allowed_actions"] == ["pay", "deliver", "refund", "return", "bounce"]


def test_erasure_keeps_sales_and_removes_personal_data(
    user: Shopper, admin: Shopper, product: Product
) -> None:
    details = {"note": "Canary note", "shipping_address": ADDRESS, "metadata": {"k": "Canary"}}
    order = user.post("/v1/orders", lines((product.id, 1)) | details).json()
    url, paid = f"/v1/orders/{order['id']}/pay", payment(1)
    assert "Canary" in admin.post(url, paid, key="of-the-administrator").text
    assert user.delete(f"/v1/users/{user.id}").status_code == 204
    # What the administrator was answered is forgotten, and the payment is not made again.
    again = admin.post(url, paid, key="of-the-administrator")
    assert (again.status_code, problem(again)) == (422, "idempotency-key-reused")
    left = admin.get(f"/v1/orders/{order['id']}")
    assert not re.search("Canary|Lovelace", left.text)
    assert left.json()["total"] == order["total"]
    assert left.json()["status"] == "cancelled"
    assert left.json()["paid"] == left.json()["unapplied"] == money(1)
    # It was paid in part, cancelled, and forgotten.
    assert left.headers["etag"] == '"4"'
