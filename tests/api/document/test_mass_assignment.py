"""Undeclared members in a request have no effect (TRUST 16)."""

import uuid
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest

from models.catalogue.product import Product
from models.catalogue.stock_entry import StockEntry
from models.identity.permission import SCOPES_OF_ROLE
from models.identity.user import User
from models.jobs.job_state import JobState
from models.orders.order import Order
from models.orders.order_line import OrderLine
from models.storage.idempotency_record import IdempotencyRecord
from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.sample_calls import SampleCall, operations
from tests.api.things import things_for
from tests.factories import fresh_email, make_account
from tests.models.books import everything
from tests.our_document import our_document
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M11"), pytest.mark.mission("M18")]

USER_SCOPES = frozenset(SCOPES_OF_ROLE["user"])
WRITING = [operation for operation in operations() if operation.body is not None]
VALUES: dict[str, object] = {
    "id": 1,
    "role": "admin",
    "active": False,
    "email_verified": True,
    "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z",
    "scope": "users:list",
    "expires_in": 10**6,
}
"""What a member that somebody might want to set would be set to."""


def _declared_anywhere() -> Iterator[str]:
    bundle = our_document().bundle
    for schema in bundle["components"]["schemas"].values():
        yield from schema.get("properties", ())


_BELOW_ALL_LIMITS = 20
TABLES = (User, Product, Order, OrderLine, StockEntry, IdempotencyRecord)
STORED = {column.name for table in TABLES for column in table.__table__.columns}
FAVOURITES = (
    "is_admin",
    "admin",
    "scopes",
    "user_id",
    "owner_id",
    "__class__",
    "__proto__",
    "$ref",
)
MEMBERS = sorted({*_declared_anywhere(), *STORED, *FAVOURITES})
PROVED = {"email", "password", "current_password"}
"""Members that an owner may change, with a proof; other tests are about them."""
_everything = partial(
    everything,
    # Background jobs report at any time, and note a token's last use and an event's place.
    without_tables=[JobState.__tablename__],
    without_columns=["last_used_at", "position"],
)


@pytest.fixture(scope="module", autouse=True)
def _no_webhooks() -> Iterator[None]:
    """Send none, because each attempt changes rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.outbound.deliverer.create_deliveries", lambda _database: False)
        patch.setattr("api.outbound.deliverer.due_endpoints", lambda _reader: [])
        yield


def _asks_and_owns(service: Service, operation: SampleCall) -> tuple[User, User]:
    """Make an account, and who is asking: its owner, or an administrator if nobody else may."""
    user = make_account(service)
    if (operation.scopes or frozenset()) <= USER_SCOPES:
        return user, user
    return make_account(service, role="admin"), user


@pytest.mark.parametrize("operation", WRITING, ids=lambda operation: operation.id)
def test_undeclared_members_change_nothing(
    service: Service, client: httpx.Client, operation: SampleCall
) -> None:
    starts = range(0, len(MEMBERS), _BELOW_ALL_LIMITS)
    askers = [_asker(service, client, operation) for _ in starts]
    before = _everything(service.app.database)
    for start, ask in zip(starts, askers, strict=True):
        for member in MEMBERS[start : start + _BELOW_ALL_LIMITS]:
            ask(member)
    assert _everything(service.app.database) == before


def _asker(service: Service, client: httpx.Client, operation: SampleCall) -> Callable[[str], None]:
    """Make what an operation needs; return a function that tries to slip in a member."""
    asking, user = _asks_and_owns(service, operation)
    own = bearer(token_for(service, asking))
    things = things_for(service, operation, user)
    registering = operation.id == "create_user"
    email = fresh_email() if registering else user.email
    body = operation.body or {}
    if operation.tag in ("users", "profile") and operation.method == "PATCH":
        body = {"name": "Mallory"}
    body = {name: things.members.get(name, value) for name, value in body.items()}
    if "email" in body:
        body["email"] = email
    # What an account may have is refused to its owner; elsewhere what is declared may be sent.
    of_accounts = operation.tag in ("users", "profile", "auth")
    may_have = body.keys() | PROVED if of_accounts else operation.members

    def ask(member: str) -> None:
        if member in may_have:
            return
        answer = client.request(
            operation.method,
            operation.url(things.places),
            json={**body, member: VALUES.get(member, "x")},
            headers=own | fresh_address() | {"Idempotency-Key": uuid.uuid4().hex},
        )
        assert answer.status_code in (403, 422), member

    return ask


@pytest.mark.parametrize("operation", WRITING, ids=lambda operation: operation.id)
def test_query_and_headers_cannot_replace_members_of_the_body(
    service: Service, client: httpx.Client, operation: SampleCall
) -> None:
    asking, user = _asks_and_owns(service, operation)
    things = things_for(service, operation, user)
    own = bearer(token_for(service, asking))
    before = _everything(service.app.database)
    answer = client.request(
        operation.method,
        operation.url(things.places),
        params={"role": "admin"},
        json={"name": "Mallory"},
        headers=own | fresh_address(),
    )
    assert answer.status_code == 400
    assert _everything(service.app.database) == before


def test_registration_creates_only_ordinary_users(service: Service, client: httpx.Client) -> None:
    boss = bearer(token_for(service, make_account(service, role="admin")))
    body = {"name": "Ada", "email": fresh_email(), "password": PASSWORD}
    made = client.post("/v1/users", json=body, headers=boss | fresh_address())
    assert made.json()["role"] == "user"
    assert not made.json()["email_verified"]
