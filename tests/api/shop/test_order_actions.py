"""Actions on an order, from payment to refund, and its events (M16, M9)."""

import httpx
import pytest

from tests.api.answers import problem
from tests.api.shopping import SHIPMENT, Shopper, lines, money, payment
from tests.factories import LIFECYCLE, STATUSES, make_order, make_product
from tests.service import Service

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M9")]

BODIES: dict[str, object] = {
    "update": {"note": "Ring twice."},
    "pay": payment(1000, reference="first"),
    "ship": SHIPMENT,
    "refund": {"amount": money(1)},
    "return": {"restock": True},
    "reduce": {},
    "bounce": {"method": "card", "reference": "first", "amount": money(1)},
}


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


def order_of(service: Service, status: str, quantity: int = 3, paid: int = 0) -> tuple[str, int]:
    """Make an order of some units for 10.00 each: its id and its product's."""
    product = make_product(service.app.database, price=1000, stock=10)
    order = make_order(service.app.database, status=status, lines=[(product, quantity)], paid=paid)
    return str(order.id), product.id


@pytest.mark.parametrize(
    "action",
    ["update", "pay", "cancel", "reduce", "ship", "deliver", "refund", "return", "bounce"],
)
@pytest.mark.parametrize("status", STATUSES)
def test_an_action_is_possible_exactly_where_the_contract_allows_it(
    service: Service, admin: Shopper, status: str, action: str
) -> None:
    # Something is paid, so that there is something to refund wherever refunds are allowed. A
    # refunded order was shipped before, so that there is something to return.
    paid = 1000 if status in ("cancelled", "expired") else 0
    order, product = order_of(service, "shipped" if status == "refunded" else status, paid=paid)
    unit = [{"product_id": product, "quantity": 1}]
    if status == "refunded":
        admin.act(order, "refund", {})
    if status in ("pending", "cancelled", "expired", "refunded"):
        admin.act(order, "pay", payment(1, reference="late"))
    if action == "bounce":
        admin.act(order, "pay", payment(1, reference="first"))
    before = admin.get(f"/v1/orders/{order}")
    assert before.json()["allowed_actions"] == list(LIFECYCLE.allowed(status))
    if action == "update":
        answer = admin.patch(f"/v1/orders/{order}", BODIES[action])
    else:
        body = {"lines": unit} if action == "reduce" else BODIES.get(action)
        answer = admin.act(order, action, body)
    if action in LIFECYCLE.allowed(status):
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] in LIFECYCLE.actions[status][action]
        assert answer.headers["etag"] != before.headers["etag"]
        return
    assert (answer.status_code, problem(answer)) == (409, "illegal-transition")
    assert answer.json()["state"] == status
    assert answer.json()["allowed_actions"] == before.json()["allowed_actions"]
    assert admin.get(f"/v1/orders/{order}").json() == before.json()


def test_payments_add_up_to_the_amount_due(service: Service, admin: Shopper) -> None:
    order, _ = order_of(service, "pending")
    first = admin.act(order, "pay", payment(1000, reference="one")).json()
    assert (first["status"], first["paid"]) == ("pending", money(1000))
    again = admin.act(order, "pay", payment(1, reference="one"))
    assert (again.status_code, problem(again)) == (409, "payment-recorded")
    foreign = admin.act(order, "pay", payment(2000, "USD"))
    assert (foreign.status_code, problem(foreign)) == (422, "invalid-body")
    assert [each["pointer"] for each in foreign.json()["errors"]] == ["/amount/currency"]
    nothing = admin.act(order, "pay", payment(0))
    assert [each["pointer"] for each in nothing.json()["errors"]] == ["/amount/amount"]
    last = admin.act(order, "pay", payment(2001)).json()
    assert (last["status"], last["paid"], last["expires_at"]) == ("paid", money(3001), None)
    assert (last["due"], last["unapplied"]) == (money(0), money(1))
    kept = admin.act(order, "refund", {"amount": money(1)}).json()
    assert (kept["status"], kept["unapplied"], kept["refunded"]) == ("paid", money(0), money(1))


def test_an_order_is_shipped_by_lines_or_as_a_whole(service: Service, admin: Shopper) -> None:
    order, product = order_of(service, "paid")

    def ship(*asked: tuple[int, int]) -> httpx.Response:
        units = [{"product_id": each, "quantity": quantity} for each, quantity in asked]
        return admin.act(order, "ship", SHIPMENT | {"lines": units})

    unknown = ship((product + 10_000, 1))
    assert (unknown.status_code, problem(unknown)) == (422, "unknown-product")
    twice = ship((product, 1), (product, 1))
    assert (twice.status_code, problem(twice)) == (422, "invalid-body")
    assert ship((product, 1)).json()["status"] == "partially_shipped"
    much = ship((product, 3))
    assert (much.status_code, problem(much)) == (409, "quantity-exceeded")
    assert [each["pointer"] for each in much.json()["errors"]] == ["/lines/0/quantity"]
    whole = admin.act(order, "ship", SHIPMENT).json()
    assert (whole["status"], whole["lines"][0]["shipped"]) == ("shipped", 3)
    stock = admin.get(f"/v1/products/{product}").json()["stock"]
    assert stock == {"on_hand": 7, "reserved": 0, "available": 7}


def test_refunds_cannot_exceed_payments(service: Service, admin: Shopper) -> None:
    order, product = order_of(service, "shipped")
    back = [{"product_id": product, "quantity": 1}]
    part = admin.act(order, "refund", {"amount": money(1000), "restock": back}).json()
    assert (part["status"], part["refunded"]) == ("shipped", money(1000))
    assert part["lines"][0]["returned"] == 1
    much = admin.act(order, "refund", {"amount": money(2001)})
    assert (much.status_code, problem(much)) == (409, "refund-exceeds-paid")
    assert much.json()["refundable"] == money(2000)
    back = [{"product_id": product, "quantity": 3}]
    more = admin.act(order, "refund", {"restock": back})
    assert (more.status_code, problem(more)) == (409, "quantity-exceeded")
    assert [each["pointer"] for each in more.json()["errors"]] == ["/restock/0/quantity"]
    rest = admin.act(order, "refund", {}).json()
    assert (rest["status"], rest["refunded"]) == ("refunded", money(3000))
    assert admin.get(f"/v1/products/{product}").json()["stock"]["on_hand"] == 8


def test_a_full_refund_releases_unshipped_goods(service: Service, admin: Shopper) -> None:
    order, product = order_of(service, "partially_shipped")
    assert admin.act(order, "refund", {}).json()["status"] == "refunded"
    stock = admin.get(f"/v1/products/{product}").json()["stock"]
    assert stock == {"on_hand": 9, "reserved": 0, "available": 9}


@pytest.mark.mission("M28")
def test_buyers_cancel_units_of_their_orders(
    service: Service, client: httpx.Client, admin: Shopper
) -> None:
    user, other = Shopper(service, client), Shopper(service, client)
    products = [make_product(service.app.database, price=1000, stock=10).id for _ in range(2)]
    order = user.post("/v1/orders", lines((products[0], 3), (products[1], 1))).json()["id"]
    one, more = ({"lines": [{"product_id": products[0], "quantity": each}]} for each in (1, 3))
    assert other.act(order, "reduce", one).status_code == 404
    reduced = user.act(order, "reduce", one | {"reason": "Two are enough."})
    assert (reduced.status_code, reduced.headers["etag"]) == (200, '"2"')
    assert (reduced.json()["total"], reduced.json()["due"]) == (money(3000), money(3000))
    assert [line["quantity"] for line in reduced.json()["lines"]] == [2, 1]
    much = user.act(order, "reduce", more)
    assert (much.status_code, problem(much)) == (409, "quantity-exceeded")
    unknown = user.act(order, "reduce", lines((products[1] + 10_000, 1)))
    assert (unknown.status_code, problem(unknown)) == (422, "unknown-product")
    everything = user.act(order, "reduce", {})
    assert (everything.status_code, problem(everything)) == (409, "order-empty")
    # The buyer has paid when fewer units cost no more than that.
    admin.act(order, "pay", payment(2500))
    paid = user.act(order, "reduce", one).json()
    assert (paid["status"], paid["unapplied"]) == ("paid", money(500))
    gone = user.act(order, "reduce", lines((products[1], 1))).json()
    assert [(line["quantity"], line["total"]) for line in gone["lines"]] == [
        (1, money(1000)),
        (0, money(0)),
    ]
    assert "reduce" not in gone["allowed_actions"]
    stock = admin.get(f"/v1/products/{products[1]}").json()["stock"]
    assert stock == {"on_hand": 10, "reserved": 0, "available": 10}
    event = user.get(f"/v1/orders/{order}/events").json()["items"][1]
    assert (event["action"], event["reason"]) == ("reduce", "Two are enough.")
    assert (event["lines"], event["actor_id"]) == (one["lines"], user.id)


@pytest.mark.mission("M28")
def test_the_rest_of_a_shipped_order_is_given_up(service: Service, admin: Shopper) -> None:
    order, product = order_of(service, "partially_shipped")
    key = "give-up-the-rest"
    closed = admin.post(f"/v1/orders/{order}/reduce", {"reason": "Sold out."}, key=key)
    assert (closed.json()["status"], closed.json()["unapplied"]) == ("shipped", money(2000))
    again = admin.post(f"/v1/orders/{order}/reduce", {"reason": "Sold out."}, key=key)
    assert again.json() == closed.json()
    stock = admin.get(f"/v1/products/{product}").json()["stock"]
    assert stock == {"on_hand": 9, "reserved": 0, "available": 9}
    refunded = admin.act(order, "refund", {"amount": money(2000)}).json()
    assert (refunded["status"], refunded["unapplied"]) == ("shipped", money(0))
    assert admin.act(order, "deliver").json()["status"] == "delivered"


@pytest.mark.mission("M28")
def test_goods_of_a_free_order_come_back(service: Service, admin: Shopper) -> None:
    product = make_product(service.app.database, price=0, stock=10)
    made = make_order(service.app.database, status="shipped", lines=[(product, 3)])
    order, url = str(made.id), f"/v1/products/{product.id}"
    unit = [{"product_id": product.id, "quantity": 1}]
    broken = {"lines": unit, "reason": "One wheel was missing.", "restock": False}
    first = admin.act(order, "return", broken).json()
    assert (first["status"], first["lines"][0]["returned"]) == ("shipped", 1)
    assert admin.get(url).json()["stock"]["on_hand"] == 7
    much = [{"product_id": product.id, "quantity": 3}]
    refused = admin.act(order, "return", {"lines": much, "restock": True})
    assert (refused.status_code, problem(refused)) == (409, "quantity-exceeded")
    assert [each["pointer"] for each in refused.json()["errors"]] == ["/lines/0/quantity"]
    rest = admin.act(order, "return", {"restock": True}).json()
    assert rest["lines"][0]["returned"] == 3
    assert "return" not in rest["allowed_actions"]
    assert admin.get(url).json()["stock"]["on_hand"] == 9
    nothing = admin.act(order, "return", {"restock": True})
    assert (nothing.status_code, problem(nothing)) == (409, "illegal-transition")
    events = admin.get(f"/v1/orders/{order}/events").json()["items"][-2:]
    told = [(each["lines"], each["restocked"], each["reason"]) for each in events]
    assert told == [
        (unit, False, "One wheel was missing."),
        ([{"product_id": product.id, "quantity": 2}], True, None),
    ]


@pytest.mark.mission("M28")
def test_goods_of_a_refunded_order_come_back_later(service: Service, admin: Shopper) -> None:
    order, product = order_of(service, "partially_shipped")
    assert admin.act(order, "refund", {}).json()["status"] == "refunded"
    back = admin.act(order, "return", {"restock": True}).json()
    assert (back["status"], back["lines"][0]["returned"]) == ("refunded", 1)
    stock = admin.get(f"/v1/products/{product}").json()["stock"]
    assert stock == {"on_hand": 10, "reserved": 0, "available": 10}


def test_payments_of_a_cancelled_order_can_be_refunded(service: Service, admin: Shopper) -> None:
    order, product = order_of(service, "paid")
    cancelled = admin.act(order, "cancel").json()
    assert (cancelled["status"], cancelled["paid"]) == ("cancelled", money(3000))
    assert admin.get(f"/v1/products/{product}").json()["stock"]["reserved"] == 0
    given = admin.act(order, "refund", {}).json()
    assert (given["status"], given["refunded"]) == ("cancelled", money(3000))
    assert given["allowed_actions"] == ["pay"]
    nothing = admin.act(order, "refund", {})
    assert (nothing.status_code, problem(nothing)) == (409, "illegal-transition")


def test_money_for_a_cancelled_order_is_recorded_and_refunded(
    service: Service, admin: Shopper
) -> None:
    order, _ = order_of(service, "cancelled")
    before = admin.get(f"/v1/orders/{order}").json()
    assert (before["allowed_actions"], before["due"]) == (["pay"], money(0))
    late = admin.act(order, "pay", payment(3000)).json()
    assert (late["status"], late["paid"], late["unapplied"]) == ("cancelled", *[money(3000)] * 2)
    assert late["allowed_actions"] == ["pay", "refund", "bounce"]
    event = admin.get(f"/v1/orders/{order}/events").json()["items"][-1]
    assert (event["action"], event["unapplied"]) == ("pay", money(3000))
    given = admin.act(order, "refund", {}).json()
    assert (given["refunded"], given["unapplied"]) == (money(3000), money(0))


def test_a_payment_bounces(service: Service, admin: Shopper) -> None:
    order, _ = order_of(service, "pending")
    admin.act(order, "pay", payment(3000, reference="b-1"))
    other = admin.act(order, "bounce", {"method": "card", "reference": "b-2"})
    assert (other.status_code, problem(other)) == (422, "unknown-payment")
    bounce = {"method": "card", "reference": "b-1"}
    much = admin.act(order, "bounce", {**bounce, "amount": money(3001)})
    assert (much.status_code, problem(much)) == (409, "bounce-exceeds-payment")
    assert much.json()["remaining"] == money(3000)
    due = admin.act(order, "bounce", {**bounce, "reason": "Charged back."}).json()
    assert (due["status"], due["paid"], due["due"]) == ("pending", money(0), money(3000))
    assert due["expires_at"]
    event = admin.get(f"/v1/orders/{order}/events").json()["items"][-1]
    assert (event["amount"], event["reason"]) == (money(3000), "Charged back.")


def test_the_timeline_records_who_did_what_and_when(
    service: Service, client: httpx.Client, admin: Shopper
) -> None:
    user = Shopper(service, client)
    product = make_product(service.app.database, price=1000)
    order = make_order(service.app.database, buyer=user.person, lines=[(product, 2)])
    admin.act(str(order.id), "pay", payment(2000, reference="r-1"))
    part = [{"product_id": product.id, "quantity": 1}]
    admin.act(str(order.id), "ship", SHIPMENT | {"lines": part})
    admin.act(str(order.id), "ship", SHIPMENT)
    admin.act(str(order.id), "deliver")
    admin.act(str(order.id), "refund", {"amount": money(1000), "reason": "late", "restock": part})
    events: list[dict[str, object]] = []
    url = f"/v1/orders/{order.id}/events?limit=4"
    while url:
        page = user.get(url)
        events += page.json()["items"]
        url = page.links.get("next", {}).get("url", "").removeprefix("http://concord.example")
    nothing = dict.fromkeys(("amount", "method", "reference", "carrier", "tracking_number"))
    nothing |= {"unapplied": None, "reason": None, "lines": [], "restocked": None}
    whole = {"actor_id": admin.id, **nothing}
    expected = [
        {"action": "create", "status": "pending", **whole, "actor_id": user.id},
        {"action": "pay", "status": "paid", **whole}
        | {"amount": money(2000), "method": "card", "reference": "r-1"},
        {"action": "ship", "status": "partially_shipped", **whole, **SHIPMENT, "lines": part},
        {"action": "ship", "status": "shipped", **whole, **SHIPMENT, "lines": part},
        {"action": "deliver", "status": "delivered", **whole},
        {"action": "refund", "status": "delivered", **whole}
        | {"amount": money(1000), "reason": "late", "lines": part},
    ]
    assert [
        {name: value for name, value in event.items() if name not in ("number", "created_at")}
        for event in events
    ] == expected
    assert [event["number"] for event in events] == [1, 2, 3, 4, 5, 6]
    times = [str(event["created_at"]) for event in events]
    assert times == sorted(times)
    assert user.get(f"/v1/orders/{order.id}").headers["etag"] == '"6"'
