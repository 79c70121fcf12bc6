"""Accounts, products and orders for tests, made in the database with defaults to override."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeAlias, TypedDict, Unpack

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.contract.compile.transitions import compile_state_machine
from api.credentials.access_tokens import Tokens
from api.credentials.signing import KeyRing
from models.access.session import NewSession, SessionRules, start_session
from models.access.token_status import TokenStatuses
from models.catalogue.product import Price, Product, ProductChanges
from models.identity.audit_event import RequestOrigin
from models.identity.token import Token, TokenKind
from models.identity.user import Role, User
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.orders.order_line import LineQuantity
from models.orders.order_placing import OrderDetails
from models.storage.constants import constant
from models.storage.database import Database
from tests.our_document import our_document
from tests.service import CHEAP, PASSWORD, Service

LIFECYCLE = Lifecycle(*compile_state_machine(our_document().bundle, "OrderStatus"))
"""The state machine that the contract declares."""
STATUSES = tuple(LIFECYCLE.actions)
HALF_AN_HOUR = timedelta(minutes=30)
_DAY = timedelta(days=1)
_HASH = CHEAP.hash(PASSWORD, email="nobody@concord.example")
_numbers = itertools.count(1)
STATUSES_OF_TOKENS = TokenStatuses(strict_administrators=False)
"""Made once, because making its statements is slow."""
_ADMINS = constant(
    select(User.id).where(User.exists(), User.role == "admin").order_by(User.id).limit(1)
)

Lines: TypeAlias = Sequence[tuple[Product, int]]
"""Products and their quantities."""


class Account(TypedDict, total=False):
    """The values of an account that a test can choose."""

    name: str
    email: str | None
    role: Role
    active: bool
    password_hash: str | None
    verified: bool


class Description(TypedDict, total=False):
    """The values of a product, besides its price, that a test can choose."""

    sku: str
    name: str
    description: str
    active: bool
    metadata: dict[str, str]


@dataclass(frozen=True)
class Person:
    """An actor."""

    user_id: int
    is_admin: bool = False
    token_version: int = 1


ROOT = Person(0, is_admin=True)
"""An administrator without an account, who can only read."""


def fresh_email() -> str:
    """Return an address that no other account of this process has."""
    return f"account{next(_numbers)}@concord.example"


def make_user(database: Database, **chosen: Unpack[Account]) -> User:
    """Store an active account. Its password is `PASSWORD`, hashed cheaply."""
    user = User.draft(
        name=chosen.get("name", "Alice Adams"),
        email=chosen.get("email") or fresh_email(),
        password_hash=chosen.get("password_hash", _HASH),
    )
    user.role = chosen.get("role", "user")
    user.active = chosen.get("active", True)
    user.email_verified = chosen.get("verified", False)
    database.transact(lambda session: session.add(user), write=True)
    return user


def make_account(service: Service, **chosen: Unpack[Account]) -> User:
    """Store an active account of a service, as in `make_user`."""
    return make_user(service.app.database, **chosen)


def make_admin(database: Database) -> Person:
    """Return the administrator of the shop, who is created on first use."""
    admin = database.read(lambda reader: reader.execute(_ADMINS).first(), single=True)
    return Person(admin.id if admin else make_user(database, role="admin").id, is_admin=True)


def make_buyer(database: Database) -> Person:
    """Store a new customer."""
    return Person(make_user(database).id)


def make_token(
    database: Database,
    user: User,
    *,
    kind: TokenKind = "session",
    scopes: Sequence[str] = ("users:read",),
) -> Token:
    """Store a session or an API key without a secret."""
    begin = partial(Token.begin, scopes=scopes, lifetime=_DAY, origin=RequestOrigin())
    return database.transact(lambda session: begin(session, user, kind), write=True)


def make_session(database: Database, user: User, keys: KeyRing) -> NewSession:
    """Begin a session as a sign-in would, but without a password hash."""
    rules = SessionRules(
        idle=_DAY,
        longest=_DAY,
        statuses=STATUSES_OF_TOKENS,
        refresh_key=keys.derive("refresh-tokens"),
    )
    start = partial(start_session, user=user, rules=rules, origin=RequestOrigin())
    return database.transact(start, write=True)


def make_access_token(database: Database, user: User, keys: KeyRing, issuer: str) -> str:
    """Begin a session and return its access token."""
    return Tokens(keys, issuer).issue(make_session(database, user, keys)).access_token


def make_product(
    database: Database,
    *,
    stock: int = 10,
    price: int = 1500,
    currency: str = "EUR",
    **description: Unpack[Description],
) -> Product:
    """Store a product with its stock."""
    values: ProductChanges = {
        "sku": f"SKU-{next(_numbers)}",
        "name": "T-shirt",
        "price": {"amount": price, "currency": currency},
        **description,
    }
    admin = make_admin(database)

    def work(session: Session) -> Product:
        product = Product.create(session, values)
        if stock:
            product.adjust(session, stock, reason="the first count", by=admin)
        return product

    return database.transact(work, write=True)


def quantities(lines: Lines) -> list[LineQuantity]:
    """Return lines as a request has them."""
    return [LineQuantity(product_id=each.id, quantity=quantity) for each, quantity in lines]


def make_order(
    database: Database,
    *,
    status: str = "pending",
    buyer: Person | None = None,
    lines: Lines | None = None,
    paid: int = 0,
    reservation: timedelta = HALF_AN_HOUR,
    **details: Unpack[OrderDetails],
) -> Order:
    """Place an order and bring it into a state by the actions that lead there.

    By default, a new customer orders three units of a new product. `paid` is a first payment; the
    rest is paid if the state requires it.
    """
    buyer = buyer or make_buyer(database)
    lines = lines or [(make_product(database), 3)]
    admin = make_admin(database)

    def work(session: Session) -> Order:
        placed = Order.place(session, quantities(lines), details, reservation=reservation, by=buyer)
        order = Order.lock_visible(session, buyer, placed.id)
        if paid:
            _pay(session, order, paid, admin)
        if status == "cancelled":
            order.cancel(session, LIFECYCLE, by=admin)
        elif status == "expired":
            order.expire(session, LIFECYCLE)
        elif status != "pending":
            _complete(session, order, status, admin)
        return order

    return database.transact(work, brief=True)


def _complete(session: Session, order: Order, status: str, by: Person) -> None:
    """Pay for an order, and ship, deliver or refund it."""
    if order.status == "pending":
        _pay(session, order, order.total_amount - order.paid_amount, by)
    if status in {"partially_shipped", "shipped", "delivered"}:
        first = [LineQuantity(product_id=order.lines[0].product_id, quantity=1)]
        parts = first if status == "partially_shipped" else None
        order.ship(session, LIFECYCLE, parts, carrier="DHL", tracking_number="JD0146", by=by)
    if status == "delivered":
        order.deliver(session, LIFECYCLE, by=by)
    if status == "refunded":
        order.refund(session, LIFECYCLE, None, reason=None, restock=(), by=by)


def _pay(session: Session, order: Order, amount: int, by: Person) -> None:
    money = Price(amount=amount, currency=order.currency)
    reference = f"payment-of-factory-{next(_numbers)}"
    order.pay(session, LIFECYCLE, money, method="card", reference=reference, by=by)
