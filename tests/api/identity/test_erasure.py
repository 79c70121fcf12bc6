"""An erased person leaves no data in any table, and none of it returns (TRUST 43)."""

import uuid
from concurrent.futures import Future, ThreadPoolExecutor, wait

import httpx
import pytest
from sqlalchemy import Integer, Table, exists, select
from sqlalchemy.orm import Session

from models.identity.audit_event import AuditEvent
from models.identity.user import User
from models.messages.message import Message
from models.orders.order import Order
from models.storage.base import Base
from tests.api.accounts import bearer, edit_account, key_for, token_for
from tests.api.answers import problem
from tests.api.authenticators import enrolled
from tests.api.recovering import link_for, request_reset
from tests.api.shopping import Shopper
from tests.databases import delete_ended
from tests.factories import Person, make_account, make_order, make_product
from tests.models.books import everything
from tests.models.reading import read_events, read_order
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M10"), pytest.mark.mission("M16")]

SECRET = "Zebedee"
ADDRESS = {
    "name": f"{SECRET} Quill",
    "line1": f"{SECRET} Street 1",
    "city": f"{SECRET}ville",
    "postal_code": SECRET,
    "country": "GB",
}
DETAILS = {
    "note": f"For {SECRET}.",
    "shipping_address": ADDRESS,
    "metadata": {"who": SECRET},
}
TRACES = (SECRET, SECRET.lower(), "203.0.113.77")
HERE = {"X-Forwarded-For": "203.0.113.77", "User-Agent": SECRET, "X-Request-ID": f"{SECRET}-1"}
NOTHING_PERSONAL = {"alembic_version", "mailbox_uses", "order_lines", "products", "product_terms"}
NOTHING_PERSONAL |= {"stored_pictures", "picture_uses", "payment_events"}
NOTHING_PERSONAL |= {"events", "stock_entries", "recovery_codes", "second_factors"}
NOTHING_PERSONAL |= {"webhook_endpoints", "webhook_deliveries", "job_runs"}
NOTHING_PERSONAL |= {"job_states", "rows_set_aside", "heartbeats"}
"""Tables without a text about a customer; what is sealed or hashed has a test of its own."""


@pytest.fixture
def admin(service: Service, client: httpx.Client) -> Shopper:
    return Shopper(service, client, admin=True)


def erase(client: httpx.Client, user_id: int, token: str) -> None:
    answer = client.delete(f"/v1/users/{user_id}", headers=bearer(token) | HERE)
    assert answer.status_code == 204, answer.text


def traces(service: Service) -> set[str]:
    """The tables in which something tells who the person was."""
    rows = everything(service.app.database)
    return {name for name, each in rows.items() if any(trace in str(each) for trace in TRACES)}


def tables_with_more_than_numbers() -> set[str]:
    """The tables that can hold a text."""
    return {
        table.name
        for table in Base.metadata.sorted_tables
        if not all(isinstance(column.type, Integer) for column in table.columns)
    }


def tables_of(service: Service, user: User) -> set[str]:
    """The tables that have rows of an account."""

    def has_rows(session: Session, table: Table) -> bool:
        return bool(session.scalar(select(exists().where(table.c.user_id == user.id))))

    tables = [each for each in Base.metadata.sorted_tables if "user_id" in each.c]
    return service.app.database.transact(
        lambda session: {each.name for each in tables if has_rows(session, each)}, write=False
    )


def test_erasure_leaves_nothing_personal_in_any_table(
    service: Service,
    client: httpx.Client,
    admin: Shopper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Message, "is_any_due", lambda _session: False)
    database = service.app.database
    user = make_account(service, email=f"{SECRET}@concord.example")
    edit_account(service, user.id, lambda session, each: each.change(session, name=f"{SECRET} Q"))
    signed_in = client.post(
        "/v1/auth/token", json={"email": user.email, "password": PASSWORD}, headers=HERE
    )
    me = bearer(signed_in.json()["access_token"]) | HERE
    key_for(service, user, "orders:read")
    enrolled(service, user)
    request_reset(client, user.email.upper())
    link_for(service, user, "change_email", email=f"{SECRET}2@concord.example")
    product = make_product(database, price=1000, stock=10)
    lines = {"lines": [{"product_id": product.id, "quantity": 2}]}
    placed = client.post(
        "/v1/orders", json={**lines, **DETAILS}, headers=me | {"Idempotency-Key": f"{SECRET}-key"}
    )
    order = placed.json()["id"]
    # Answers to an administrator are kept as well, and tell of the owner of the order.
    paid = {"amount": placed.json()["total"], "method": "card", "reference": "ch_1"}
    assert admin.act(order, "pay", paid).status_code == 200
    assert (
        admin.act(order, "ship", {"carrier": "Post", "tracking_number": SECRET}).status_code == 200
    )
    assert admin.act(order, "refund", {"reason": SECRET}).status_code == 200
    with_traces = tables_with_more_than_numbers() - NOTHING_PERSONAL - {"refresh_tokens"}
    assert traces(service) == with_traces

    erase(client, user.id, signed_in.json()["access_token"])

    assert traces(service) == set()
    assert tables_of(service, user) == {"orders", "audit_events"}
    kept = [each.reference for each in read_events(database, Order(id=uuid.UUID(order)))]
    assert kept == [None, "ch_1", None, None, None]
    delete_ended(database)
    assert traces(service) == set()


def test_nothing_personal_is_added_about_an_erased_owner(
    service: Service, client: httpx.Client, admin: Shopper
) -> None:
    database, user = service.app.database, make_account(service)
    product = make_product(database, price=1000, stock=10)
    buyer = Person(user.id)
    paid = make_order(database, status="paid", buyer=buyer, lines=[(product, 1)], note="Ring.")
    own = client.delete(f"/v1/users/{user.id}", headers=bearer(token_for(service, user)))
    assert (own.status_code, problem(own)) == (409, "orders-open")
    assert own.json()["orders"] == [str(paid.id)]
    assert admin.delete(f"/v1/users/{user.id}").status_code == 204

    left_open = admin.get(f"/v1/orders/{paid.id}").json()
    assert left_open["note"] == "Ring."
    assert "update" not in left_open["allowed_actions"]
    for member, value in DETAILS.items():
        refused = admin.patch(f"/v1/orders/{paid.id}", {member: value})
        assert (refused.status_code, problem(refused)) == (409, "owner-erased")
    shipment = {"carrier": "Post", "tracking_number": SECRET}
    assert admin.act(str(paid.id), "ship", shipment).status_code == 200
    assert admin.act(str(paid.id), "refund", {"reason": SECRET}).status_code == 200

    left = read_order(database, paid)
    assert (left.note, left.shipping_address, left.labels) == (None, None, {})
    events = read_events(database, paid)
    assert [each.number for each in events] == [1, 2, 3, 4]
    told = [(each.action, each.carrier, each.tracking_number, each.reason) for each in events]
    assert told[-2:] == [("ship", "Post", None, None), ("refund", None, None, None)]


def test_a_change_concurrent_with_the_erasure_leaves_nothing(
    service: Service, client: httpx.Client, admin: Shopper
) -> None:
    database = service.app.database
    for _ in range(5):
        user = make_account(service)
        product = make_product(database, price=1000, stock=10)
        order = make_order(database, buyer=Person(user.id), lines=[(product, 1)])
        token = token_for(service, user)
        with ThreadPoolExecutor(7) as pool:
            changes = [
                pool.submit(admin.patch, f"/v1/orders/{order.id}", DETAILS) for _ in range(6)
            ]
            pool.submit(erase, client, user.id, token).result()
        assert {change.result().status_code for change in changes} <= {200, 409}
        left = read_order(database, order)
        assert (left.note, left.shipping_address, left.labels) == (None, None, {})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tokens", {"name": SECRET, "scopes": ["orders:read"]}),
        ("/v1/auth/email-verification", None),
        (
            "/v1/profile/email-change",
            {"email": f"{SECRET}@concord.example", "current_password": PASSWORD},
        ),
        ("/v1/auth/token", {"email": f"{SECRET}@concord.example", "password": PASSWORD}),
    ],
)
def test_a_request_concurrent_with_the_erasure_leaves_nothing(
    service: Service,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, object] | None,
) -> None:
    monkeypatch.setattr(Message, "is_any_due", lambda _session: False)
    user = make_account(service, email=f"{SECRET}@concord.example")
    own, forget = bearer(token_for(service, user)), AuditEvent.forget
    requests: list[Future[httpx.Response]] = []
    with ThreadPoolExecutor(1) as pool:

        def forget_after_the_request(session: Session, user_id: int) -> None:
            requests.append(pool.submit(client.post, path, json=body, headers=own))
            wait(requests, 0.5)
            forget(session, user_id)

        monkeypatch.setattr(AuditEvent, "forget", forget_after_the_request)
        erase(client, user.id, token_for(service, user))
        assert requests[0].result().status_code == 401
    assert tables_of(service, user) == {"audit_events"}
