"""Requests with an Idempotency-Key: executed once, with the same response each time (M16)."""

import json
import queue
import threading
import uuid

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.catalogue.product import Product
from models.orders.order import Order
from tests.api.accounts import bearer, key_for, token_for
from tests.api.answers import problem
from tests.api.shopping import SHIPMENT, Shopper, lines, money, payment
from tests.factories import make_account, make_order, make_product
from tests.service import Service

pytestmark = pytest.mark.mission("M16")

REPLAYED = "idempotent-replayed"


@pytest.fixture
def user(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client)


@pytest.fixture
def product(service: Service) -> Product:
    return make_product(service.app.database, stock=100, price=1000)


def orders_of(service: Service, user: Shopper) -> int:
    query = select(Order.id).where(Order.user_id == user.id)
    return service.app.database.transact(
        lambda session: len(session.scalars(query).all()), write=False
    )


def key() -> str:
    return uuid.uuid4().hex


def test_a_repeated_request_gets_the_same_response_once_executed(
    service: Service, user: Shopper, product: Product
) -> None:
    used = key()
    first = user.post("/v1/orders", lines((product.id, 1)), key=used)
    again = user.post("/v1/orders", lines((product.id, 1)), key=used)
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("location", "etag", "content-type", "cache-control", "x-content-type-options"):
        assert again.headers[name] == first.headers[name]
    assert orders_of(service, user) == 1


def test_the_stored_response_is_returned_despite_later_changes(
    user: Shopper, product: Product
) -> None:
    used = key()
    first = user.post("/v1/orders", lines((product.id, 1)), key=used)
    user.act(first.json()["id"], "cancel")
    assert user.post("/v1/orders", lines((product.id, 1)), key=used).content == first.content


def test_a_retry_is_not_compared_with_the_version_that_it_made(
    service: Service, client: httpx.Client, user: Shopper, product: Product
) -> None:
    order = user.post("/v1/orders", lines((product.id, 1)))
    url = f"/v1/orders/{order.json()['id']}/cancel"
    headers = bearer(token_for(service, make_account(service, role="admin")))
    headers |= {"Idempotency-Key": key(), "If-Match": order.headers["etag"]}
    first = client.post(url, headers=headers)
    for version in (order.headers["etag"], first.headers["etag"]):
        again = client.post(url, headers=headers | {"If-Match": version})
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers[REPLAYED] == "true"


def test_equivalent_spellings_of_a_request_are_equal(
    user: Shopper, product: Product, client: httpx.Client
) -> None:
    used = key()
    body = {**lines((product.id, 1)), "note": "x"}
    first = user.post("/v1/orders", body, key=used)
    spelled = json.dumps(dict(reversed(body.items())), indent=2)
    spelled = spelled.replace('"quantity": 1', '"quantity": 1.0')
    again = client.post(
        "/v1/orders/",
        content=spelled,
        headers=user.headers | {"Idempotency-Key": used, "Content-Type": "application/json"},
    )
    assert again.content == first.content
    assert again.headers[REPLAYED] == "true"


def test_a_different_request_with_the_key_is_refused(
    service: Service, user: Shopper, product: Product
) -> None:
    used = key()
    order = user.post("/v1/orders", lines((product.id, 1)), key=used).json()
    for url, body in (
        ("/v1/orders", lines((product.id, 2))),
        ("/v1/orders", {**lines((product.id, 1)), "note": None}),
        (f"/v1/orders/{order['id']}/cancel", None),
    ):
        refused = user.post(url, body, key=used)
        assert (refused.status_code, problem(refused)) == (422, "idempotency-key-reused")
        assert REPLAYED not in refused.headers
    assert orders_of(service, user) == 1


def test_a_key_belongs_to_its_caller(
    service: Service, client: httpx.Client, user: Shopper, product: Product
) -> None:
    used, other = key(), Shopper(service, client)
    first = user.post("/v1/orders", lines((product.id, 1)), key=used)
    second = other.post("/v1/orders", lines((product.id, 1)), key=used)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]
    assert REPLAYED not in second.headers


def test_a_stored_response_is_not_given_to_a_narrower_key(
    service: Service, user: Shopper, client: httpx.Client, product: Product
) -> None:
    administrator = make_account(service, role="admin")
    order = user.post("/v1/orders", lines((product.id, 1))).json()
    session = bearer(token_for(service, administrator))
    narrow = bearer(key_for(service, administrator, "orders:write")[1])
    wide = bearer(key_for(service, administrator, "orders:write", "admin:access")[1])
    request = client.build_request("POST", f"/v1/orders/{order['id']}/cancel")
    request.headers["Idempotency-Key"] = key()

    def send(headers: dict[str, str]) -> httpx.Response:
        request.headers.update(headers)
        return client.send(request)

    assert send(session).status_code == 200
    refused = send(narrow)
    # The order looks as one that does not exist, whatever the key was used for.
    assert (refused.status_code, problem(refused)) == (404, "not-found")
    assert (send(wide).status_code, problem(send(wide))) == (422, "idempotency-key-reused")
    assert send(session).headers[REPLAYED] == "true"


def test_a_stored_response_needs_the_same_scopes(
    service: Service, client: httpx.Client, product: Product
) -> None:
    account, used = make_account(service), key()
    session = bearer(token_for(service, account))
    narrow = bearer(key_for(service, account, "orders:write")[1])
    again = bearer(token_for(service, account))
    answers = [
        client.post(
            "/v1/orders", json=lines((product.id, 1)), headers={**headers, "Idempotency-Key": used}
        )
        for headers in (session, narrow, again)
    ]
    assert [answer.status_code for answer in answers] == [201, 422, 201]
    assert answers[2].headers[REPLAYED] == "true"


def test_a_refusal_is_not_stored(service: Service, user: Shopper, client: httpx.Client) -> None:
    product = make_product(service.app.database, stock=0)
    admin = Shopper(service, client, admin=True)
    used = key()
    assert user.post("/v1/orders", lines((product.id, 1)), key=used).status_code == 409
    assert user.post("/v1/orders", {"lines": []}, key=used).status_code == 422
    delivery = {"quantity": 5, "reason": "delivery"}
    admin.post(f"/v1/products/{product.id}/stock-adjustments", delivery)
    made = user.post("/v1/orders", lines((product.id, 2)), key=used)
    assert (made.status_code, made.headers.get(REPLAYED)) == (201, None)


@pytest.mark.parametrize(
    ("status", "action", "body"),
    [
        ("pending", "cancel", None),
        ("pending", "pay", payment(1000, reference="once")),
        ("paid", "ship", SHIPMENT),
        ("shipped", "deliver", None),
        ("paid", "refund", {"amount": money(500)}),
    ],
)
def test_an_action_is_executed_once(
    service: Service, client: httpx.Client, status: str, action: str, body: object
) -> None:
    admin = Shopper(service, client, admin=True)
    product = make_product(service.app.database, price=1000)
    order = make_order(service.app.database, status=status, lines=[(product, 2)])
    used, url = key(), f"/v1/orders/{order.id}/{action}"
    first, again = (admin.post(url, body, key=used) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert (first.headers.get(REPLAYED), again.headers.get(REPLAYED)) == (None, "true")
    events = admin.get(f"/v1/orders/{order.id}/events").json()["items"]
    assert [event["action"] for event in events].count(action) == 1


def test_stock_is_adjusted_once(service: Service, client: httpx.Client, product: Product) -> None:
    admin = Shopper(service, client, admin=True)
    used, url = key(), f"/v1/products/{product.id}"
    body = {"quantity": 5, "reason": "delivery"}
    first, again = (admin.post(f"{url}/stock-adjustments", body, key=used) for _ in range(2))
    assert again.content == first.content
    assert admin.get(url).json()["stock"]["on_hand"] == 105


def test_a_repetition_during_the_first_request_is_refused(
    service: Service, user: Shopper, product: Product
) -> None:
    used = key()
    answers: queue.Queue[httpx.Response] = queue.Queue()

    def send() -> None:
        answers.put(user.post("/v1/orders", lines((product.id, 1)), key=used))

    def hold(session: Session) -> list[threading.Thread]:
        """Keep the product from being reserved until one of two was refused."""
        Product.locked(session, [product.id])
        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        refused = answers.get(timeout=4)
        assert (refused.status_code, problem(refused)) == (409, "idempotency-in-flight")
        assert refused.headers["retry-after"] == "1"
        return threads

    for thread in service.app.database.transact(hold, write=True):
        thread.join(30)
    made = answers.get_nowait()
    assert made.status_code == 201
    assert user.post("/v1/orders", lines((product.id, 1)), key=used).content == made.content


@pytest.mark.parametrize("value", ["", "a b", "x" * 256, "caf\u00e9", "a\tb"])
def test_an_invalid_key_is_refused(client: httpx.Client, user: Shopper, value: str) -> None:
    sent = [*user.headers.items(), ("Idempotency-Key", value)]
    headers = [(name.encode(), text.encode("latin-1")) for name, text in sent]
    refused = client.post("/v1/orders", json=lines((1, 1)), headers=headers)
    assert (refused.status_code, problem(refused)) == (400, "invalid-parameters")
    assert [each["parameter"] for each in refused.json()["errors"]] == ["Idempotency-Key"]


def test_a_key_is_required(client: httpx.Client, user: Shopper) -> None:
    missing = client.post("/v1/orders", json=lines((1, 1)), headers=user.headers)
    assert (missing.status_code, problem(missing)) == (400, "invalid-parameters")
    assert missing.json()["errors"][0]["code"] == "required"
