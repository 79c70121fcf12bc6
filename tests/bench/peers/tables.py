"""Concord's tables as the peers that use SQLAlchemy declare them, after SQLAlchemy's own tutorial.

Concord's migrations made them; only what the measured operations read and write is mapped.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, Integer, LargeBinary, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator, TypeEngine

from tests.bench.peers.derived import Amounts, Money, money


class Instant(TypeDecorator[datetime]):
    """A time in UTC, aware on every database (a recipe of SQLAlchemy's documentation)."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime(timezone=True)
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - declared so by SQLAlchemy.
        datetime: Instant,
        UUID: Uuid,
        dict[str, str]: JSON(none_as_null=True),
        dict[str, Any]: JSON,
        list[Any]: JSON,
        bytes: LargeBinary,
    }


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    role: Mapped[str]
    active: Mapped[bool]
    email_verified: Mapped[bool]
    password_change_required: Mapped[bool]
    avatar: Mapped[str | None]
    token_version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    erased_at: Mapped[datetime | None]


class Token(Base):
    """A session: what of it is read to see whether it holds."""

    __tablename__ = "tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    token_version: Mapped[int]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    name: Mapped[str]
    price_amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    on_hand: Mapped[int]
    reserved: Mapped[int]
    active: Mapped[bool]
    version: Mapped[int] = mapped_column()
    updated_at: Mapped[datetime]
    archived_at: Mapped[datetime | None]

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - declared so by SQLAlchemy.


class OrderLine(Base):
    __tablename__ = "order_lines"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    sku: Mapped[str]
    name: Mapped[str]
    unit_amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    quantity: Mapped[int]
    shipped: Mapped[int] = mapped_column(default=0)
    returned: Mapped[int] = mapped_column(default=0)

    @property
    def unit_price(self) -> Money:
        return money(self.unit_amount, self.currency)

    @property
    def total(self) -> Money:
        return money(self.unit_amount * self.quantity, self.currency)


class OrderEvent(Base):
    __tablename__ = "order_events"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action: Mapped[str]
    status: Mapped[str]
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    lines: Mapped[list[Any]] = mapped_column(default=list)


class StockEntry(Base):
    """A row of the ledger: what was added to the stock of a product, or promised of it."""

    __tablename__ = "stock_entries"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    kind: Mapped[str]
    on_hand: Mapped[int]
    reserved: Mapped[int]
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("orders.id"))
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]


class Order(Amounts, Base):
    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str]
    currency: Mapped[str]
    total_amount: Mapped[int] = mapped_column(BigInteger)
    paid_amount: Mapped[int] = mapped_column(BigInteger)
    refunded_amount: Mapped[int] = mapped_column(BigInteger)
    bounced_amount: Mapped[int] = mapped_column(BigInteger)
    unapplied_amount: Mapped[int] = mapped_column(BigInteger)
    unapplied_refunded_amount: Mapped[int] = mapped_column(BigInteger)
    note: Mapped[str | None]
    shipping_address: Mapped[dict[str, str] | None]
    labels: Mapped[dict[str, str]] = mapped_column("metadata")
    version: Mapped[int] = mapped_column()
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    lines: Mapped[list[OrderLine]] = relationship(order_by=OrderLine.number)
    events: Mapped[list[OrderEvent]] = relationship()
    stock_entries: Mapped[list[StockEntry]] = relationship()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - declared so by SQLAlchemy.

    @property
    def allowed_actions(self) -> list[str]:
        return self.allowed(self.lines)


class Event(Base):
    """A row of the feed that other programs follow."""

    __tablename__ = "events"

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True
    )
    id: Mapped[UUID]
    type: Mapped[str]
    subject: Mapped[str]
    version: Mapped[int]
    facts: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class IdempotencyRecord(Base):
    """The answer to a request that its client gave a key."""

    __tablename__ = "idempotency_records"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    fingerprint: Mapped[bytes]
    status: Mapped[int]
    headers: Mapped[list[Any]]
    body: Mapped[bytes]
    created_at: Mapped[datetime]
