"""Orders that administrators place for customers."""

import httpx
import pytest

from tests.api.answers import problem
from tests.api.shopping import Shopper, lines
from tests.factories import make_account, make_product
from tests.models.books import check_books
from tests.models.reading import read_entries
from tests.service import Service

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M28")]


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


@pytest.fixture
def user(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client)


def test_an_order_on_behalf_belongs_to_the_customer(
    service: Service, admin: Shopper, user: Shopper
) -> None:
    product = make_product(service.app.database, stock=10)
    body = lines((product.id, 2)) | {"user_id": user.id}

    placed = admin.post("/v1/orders", body, key="by-telephone")
    again = admin.post("/v1/orders", body, key="by-telephone")

    assert (placed.status_code, placed.json()["user_id"]) == (201, user.id)
    assert again.json() == placed.json()
    url = f"/v1/orders/{placed.json()['id']}"
    assert user.get(url).json() == placed.json()
    (event,) = user.get(f"{url}/events").json()["items"]
    assert (event["action"], event["actor_id"]) == ("create", admin.id)
    entry = read_entries(service.app.database, product)[-1]
    assert (entry.kind, entry.actor_id) == ("reservation", admin.id)
    # The key is the administrator's, so the customer can use the same one.
    own = user.post("/v1/orders", lines((product.id, 1)), key="by-telephone")
    assert own.status_code == 201
    assert user.act(placed.json()["id"], "cancel").json()["status"] == "cancelled"
    check_books(service.app.database)


def test_users_cannot_order_for_anybody(service: Service, user: Shopper) -> None:
    product, other = make_product(service.app.database, stock=1), make_account(service)
    for user_id in (other.id, user.id):
        body = lines((product.id, 1)) | {"user_id": user_id}
        refused = user.post("/v1/orders", body)
        assert (refused.status_code, problem(refused)) == (403, "not-permitted")
    assert user.get("/v1/orders").json()["items"] == []
    assert user.get(f"/v1/products/{product.id}").json()["stock"]["reserved"] == 0


def test_orders_for_unknown_accounts_are_refused(
    service: Service, admin: Shopper, user: Shopper
) -> None:
    product = make_product(service.app.database, stock=1)
    assert admin.delete(f"/v1/users/{user.id}").status_code == 204
    for user_id in (user.id, 987654321):
        refused = admin.post("/v1/orders", lines((product.id, 1)) | {"user_id": user_id})
        assert (refused.status_code, problem(refused)) == (422, "unknown-user")
        assert [each["pointer"] for each in refused.json()["errors"]] == ["/user_id"]
    assert admin.get(f"/v1/products/{product.id}").json()["stock"]["reserved"] == 0


def test_erasing_the_customer_cancels_orders_on_behalf(
    service: Service, admin: Shopper, user: Shopper
) -> None:
    product = make_product(service.app.database, stock=1)
    body = lines((product.id, 1)) | {"user_id": user.id, "note": "Zebedee called."}
    order = admin.post("/v1/orders", body, key="kept").json()["id"]

    assert user.delete(f"/v1/users/{user.id}").status_code == 204

    left = admin.get(f"/v1/orders/{order}").json()
    assert (left["status"], left["note"]) == ("cancelled", None)
    # The answer that the administrator was given is forgotten too.
    again = admin.post("/v1/orders", body, key="kept")
    assert (again.status_code, problem(again)) == (422, "idempotency-key-reused")
    check_books(service.app.database)
