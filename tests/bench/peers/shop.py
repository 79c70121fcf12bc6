"""The SQL of the peers that use SQLAlchemy: the same statements, locks and rows as Concord's."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.orm import Session, selectinload
from uuid_utils.compat import uuid7

from tests.bench.peers.derived import NO_MONEY, events_of
from tests.bench.peers.settings import DATABASE_URL, RESERVATION, read_token
from tests.bench.peers.tables import (
    Event,
    IdempotencyRecord,
    Order,
    OrderEvent,
    OrderLine,
    Product,
    StockEntry,
    Token,
    User,
)

# Every connection of the load may hold one, and a thread that waits for one would block the
# requests that hold theirs.
POOL = {"pool_size": 64, "max_overflow": 16, "pool_timeout": 30}
BUSY_SECONDS = 30
WRITING = {"begin": "BEGIN IMMEDIATE"}
SINGLE = {"begin": ""}
"""For one statement that reads, which needs no transaction."""

Asked = Sequence[tuple[int, int]]
"""Products that are ordered, each with its quantity."""


class Unplaceable(Exception):
    """The lines make no order."""


class OutOfStock(Exception):
    """There is not enough of something."""


class KeyReused(Exception):
    """The idempotency key was used for another request."""


def make_engines() -> tuple[Engine, Engine]:
    """One pool, for what reads and for what writes."""
    url = make_url(DATABASE_URL)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, **POOL)
        use_sqlite(engine)
    else:
        engine = create_engine(url.set(drivername="postgresql+psycopg"), **POOL)
    return engine, engine.execution_options(**WRITING)


def use_sqlite(engine: Engine) -> None:
    """Set up SQLite as Concord does, transactions as SQLAlchemy's documentation says."""

    def connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - of either driver.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode = WAL", "foreign_keys = ON", "secure_delete = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("begin", "BEGIN")
        if statement:
            connection.exec_driver_sql(statement)

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)


def account_of(session: Session, token: str, scope: str) -> User | None:
    """The account of a token whose session holds, and which has the scope.

    Raises:
        jwt.InvalidTokenError: see `read_token`.
    """
    user_id, session_id, scopes = read_token(token)
    query = (
        select(User)
        .join(Token, Token.user_id == User.id)
        .where(
            Token.id == session_id,
            Token.user_id == user_id,
            Token.ended_at.is_(None),
            Token.expires_at > datetime.now(UTC),
            Token.token_version == User.token_version,
            User.active,
            User.erased_at.is_(None),
        )
    )
    user = session.scalar(query)
    return user if scope in scopes else None


def visible_user(session: Session, account: User, user_id: int) -> User | None:
    """The account of that number, if the caller may see it."""
    if account.id == user_id:
        # It was read in this request already.
        return account
    user = session.get(User, user_id) if account.role == "admin" else None
    return None if user is None or user.erased_at else user


def read_orders(session: Session, account: User, limit: int) -> tuple[Sequence[Order], str | None]:
    """The newest orders of an account, and the cursor of the next page."""
    query = select(Order).options(selectinload(Order.lines)).order_by(Order.id.desc())
    if account.role != "admin":
        query = query.where(Order.user_id == account.id)
    rows = session.scalars(query.limit(limit + 1)).all()
    return rows[:limit], cursor_after(rows[limit - 1].id) if len(rows) > limit else None


def cursor_after(order_id: UUID) -> str:
    return base64.urlsafe_b64encode(order_id.bytes).rstrip(b"=").decode()


def fingerprint_of(body: object) -> bytes:
    """Hash what is asked, so that a key that is used for something else is noticed."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).digest()


def replay(session: Session, user_id: int, key: str, fingerprint: bytes) -> bytes | None:
    """The answer that the request had before.

    Raises:
        KeyReused: it was another request.
    """
    record = session.get(IdempotencyRecord, (user_id, key))
    if record is not None and record.fingerprint != fingerprint:
        raise KeyReused
    return None if record is None else record.body


def place_once(
    session: Session,
    user_id: int,
    key: str,
    body: object,
    place: Callable[[], Order],
    write: Callable[[Order], bytes],
) -> bytes:
    """Place an order, unless the key says that it was placed; the answer, kept under the key."""
    fingerprint = fingerprint_of(body)
    answer = replay(session, user_id, key, fingerprint)
    if answer is not None:
        return answer
    order = place()
    answer = write(order)
    session.add(
        IdempotencyRecord(
            user_id=user_id,
            key=key,
            owner_id=user_id,
            fingerprint=fingerprint,
            status=201,
            headers=[["Location", f"/v1/orders/{order.id}"], ["Content-Type", "application/json"]],
            body=answer,
            created_at=datetime.now(UTC),
        )
    )
    return answer


def place_order(
    session: Session,
    user_id: int,
    asked: Asked,
    *,
    note: str | None,
    shipping_address: dict[str, str] | None,
    metadata: dict[str, str],
) -> Order:
    """Reserve stock and write the order, its event, and the rows of the ledger and the feed.

    Raises:
        Unplaceable, OutOfStock: see there.
    """
    query = select(Product).where(Product.id.in_([product_id for product_id, _ in asked]))
    locked = query.order_by(Product.id).with_for_update(key_share=True)
    products = {product.id: product for product in session.scalars(locked)}
    if len(products) != len(asked) or not all(
        product.active and product.archived_at is None for product in products.values()
    ):
        raise Unplaceable("a product is unknown or named twice")
    currencies = {product.currency for product in products.values()}
    if len(currencies) > 1:
        raise Unplaceable("the products have several currencies")
    versions = {product.id: product.version for product in products.values()}
    now = datetime.now(UTC)
    order = Order(
        id=uuid7(),
        user_id=user_id,
        status="pending",
        currency=currencies.pop(),
        total_amount=sum(products[number].price_amount * units for number, units in asked),
        **NO_MONEY,
        note=note,
        shipping_address=shipping_address,
        labels=metadata,
        expires_at=now + RESERVATION,
        created_at=now,
        updated_at=now,
    )
    order.events.append(
        OrderEvent(number=1, action="create", status="pending", actor_id=user_id, created_at=now)
    )
    for number, (product_id, units) in enumerate(asked):
        product = products[product_id]
        if product.on_hand - product.reserved < units:
            raise OutOfStock
        product.reserved += units
        product.updated_at = now
        order.lines.append(
            OrderLine(
                number=number,
                product_id=product_id,
                sku=product.sku,
                name=product.name,
                unit_amount=product.price_amount,
                currency=product.currency,
                quantity=units,
                shipped=0,
                returned=0,
            )
        )
        order.stock_entries.append(
            StockEntry(
                product_id=product_id,
                kind="reservation",
                on_hand=0,
                reserved=units,
                actor_id=user_id,
                created_at=now,
            )
        )
    session.add(order)
    session.add_all(Event(**row) for row in events_of(order, order.lines, versions, now))
    return order
