"""Products: what can be ordered, for how much, and how much of it there is."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Connection,
    Identity,
    Index,
    Integer,
    String,
    Text,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.base import Base, BigId, UTCDateTime, Versioned, utcnow
from models.errors import (
    Fault,
    InvalidQuantity,
    NotFound,
    SkuTaken,
    StockOutOfRange,
)
from models.money import Money
from models.product_search import index_product
from models.stock import StockEntry, StockKind
from models.text import fold, sortable

MAX_STOCK = 1_000_000_000
"""Units of one product that there can be."""

_NAME_KEY_LENGTH = 48
"""Characters by which names are put in order; what is equal so far is in the order of age."""
_ROWS_THAT_EXIST: dict[str, Any] = dict.fromkeys(
    ("postgresql_where", "sqlite_where"), text("archived_at IS NULL")
)


class Stock(NamedTuple):
    """How many units there are, how many of them are promised to orders, and how many are left."""

    on_hand: int
    reserved: int
    available: int


class Price(TypedDict):
    """A price as it is sent: `amount` in minor units."""

    amount: int
    currency: str


class ProductChanges(TypedDict, total=False):
    """What is given of a product when it is made or changed; what is left out stays."""

    sku: str
    name: str
    description: str
    price: Price
    active: bool
    metadata: dict[str, str]


class Product(Versioned, Base):
    """Something that is for sale.

    `on_hand` and `reserved` always equal the sums of the product's `StockEntry` rows, because both
    change together, in `reserve` and `_move`. `version` counts every change, of the stock too. What
    is archived exists only for the orders that refer to it.
    """

    __tablename__ = "products"

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    sku: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    name_key: Mapped[str] = mapped_column(sortable(_NAME_KEY_LENGTH))
    description: Mapped[str] = mapped_column(Text)
    price_amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    on_hand: Mapped[int] = mapped_column(Integer, default=0)
    reserved: Mapped[int] = mapped_column(Integer, default=0)
    active: Mapped[bool] = mapped_column(default=True)
    labels: Mapped[dict[str, str]] = mapped_column("metadata", JSON, default=dict)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, onupdate=utcnow)
    archived_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint("reserved >= 0 AND reserved <= on_hand", name="reserved"),
        CheckConstraint("price_amount >= 0", name="price"),
        Index("uq_products_sku", func.lower(sku), unique=True, **_ROWS_THAT_EXIST),
        # Each order of the list has an index, behind the one filter that is always there.
        Index(None, "active", "id", **_ROWS_THAT_EXIST),
        Index(None, "active", "name_key", "id", **_ROWS_THAT_EXIST),
        Index(None, "active", "price_amount", "id", **_ROWS_THAT_EXIST),
        Index(None, "active", "currency", "price_amount", "id", **_ROWS_THAT_EXIST),
        {"sqlite_autoincrement": True},
    )

    @classmethod
    def create(cls, session: Session, values: ProductChanges) -> "Product":
        """Add a product, of which there is nothing yet.

        Raises:
            SkuTaken: another product has the SKU, in whatever case.
        """
        now = utcnow()
        product = cls(description="", created_at=now, updated_at=now)
        session.add(product)
        product.change(session, values)
        return product

    @classmethod
    def exists(cls) -> ColumnElement[bool]:
        """Give the condition that every query begins with: the product has not been archived."""
        return cls.archived_at.is_(None)

    @classmethod
    def seen_by(cls, actor: Actor | None) -> ColumnElement[bool]:
        """Give the condition for the products that somebody, or anybody, may know of."""
        everything = actor is not None and actor.is_admin
        return cls.exists() if everything else cls.exists() & cls.active

    @classmethod
    def visible_to(cls, session: Session, actor: Actor | None, product_id: int) -> "Product":
        """Read one product.

        Raises:
            NotFound: there is no such product, or the actor may not know of it.
        """
        product = session.scalar(select(cls).where(cls.seen_by(actor), cls.id == product_id))
        if product is None:
            raise NotFound
        return product

    @classmethod
    def changeable_by(cls, session: Session, actor: Actor, product_id: int) -> "Product":
        """Read one product, and keep everybody else from changing it meanwhile.

        Raises:
            NotFound: as in `visible_to`.
        """
        product = cls.locked(session, [product_id]).get(product_id)
        if product is None or product.archived_at is not None or not actor.is_admin:
            raise NotFound
        return product

    @classmethod
    def locked(cls, session: Session, product_ids: Iterable[int]) -> Mapping[int, "Product"]:
        """Read products that are going to change, and keep everybody else from changing them.

        They are locked in the order of their ids, so that two who lock the same never wait for
        each other. Archived ones are among them: orders still have to give back their stock.
        """
        query = select(cls).where(cls.id.in_(product_ids)).order_by(cls.id)
        # What the session knew of them before is as old as the lock is not.
        current = query.with_for_update(key_share=True).execution_options(populate_existing=True)
        rows = session.scalars(current)
        return {product.id: product for product in rows}

    @classmethod
    def reserve(
        cls, connection: Connection, quantities: Mapping[int, int], *, order_id: UUID, by: int
    ) -> None:
        """Promise units of products, by their ids, to an order.

        Whoever asks holds the products and has made sure that so many are available.
        """
        moves = [{"moved": each, "quantity": quantities[each]} for each in sorted(quantities)]
        connection.execute(_RESERVE, moves)
        now = utcnow()
        entries = [
            {
                "product_id": product_id,
                "kind": "reservation",
                "on_hand": 0,
                "reserved": quantity,
                "order_id": order_id,
                "actor_id": by,
                "created_at": now,
            }
            for product_id, quantity in quantities.items()
        ]
        connection.execute(_ENTER, entries)

    @property
    def price(self) -> Money:
        """What one unit costs."""
        return Money(self.price_amount, self.currency)

    @property
    def stock(self) -> Stock:
        """What there is of it."""
        return Stock(self.on_hand, self.reserved, self.available)

    @property
    def available(self) -> int:
        """Units that can still be ordered."""
        return self.on_hand - self.reserved

    @property
    def can_be_ordered(self) -> bool:
        """Whether new orders may have it, if there is enough."""
        return self.active and self.archived_at is None

    def change(self, session: Session, changes: ProductChanges) -> None:
        """Change what is given. Orders that were placed keep the name and the price they had.

        Raises:
            SkuTaken: another product has the SKU, in whatever case.
        """
        if "price" in changes:
            self.price_amount = changes["price"]["amount"]
            self.currency = changes["price"]["currency"]
        if "metadata" in changes:
            self.labels = changes["metadata"]
        for name in ("sku", "name", "description", "active"):
            if name in changes:
                setattr(self, name, changes[name])
        self.name_key = fold(self.name)[:_NAME_KEY_LENGTH]
        try:
            # The terms need the id that this gives, and only the database can tell that a SKU is
            # taken when two take it at the same moment.
            session.flush()
        except IntegrityError as error:
            if "uq_products_sku" in str(error.orig):
                raise SkuTaken from None
            raise
        if not changes.keys().isdisjoint({"sku", "name"}):
            index_product(session, self.id, f"{self.name} {self.sku}")

    def archive(self) -> None:
        """Take it out of the catalogue for good. What orders have reserved stays theirs."""
        self.active = False
        self.archived_at = utcnow()

    def adjust(self, session: Session, quantity: int, *, reason: str, by: Actor) -> StockEntry:
        """Add units to what is on hand, or take some away.

        Raises:
            InvalidQuantity: it is none.
            StockOutOfRange: fewer would be left than are reserved, or there would be too many.
        """
        if not quantity:
            raise InvalidQuantity(faults=[Fault("/quantity", "must not be 0")])
        if not self.reserved <= self.on_hand + quantity <= MAX_STOCK:
            raise StockOutOfRange
        return self._move(
            session, "adjustment", on_hand=quantity, actor_id=by.user_id, reason=reason
        )

    def release(self, session: Session, quantity: int, *, order_id: UUID, by: int | None) -> None:
        """Take back what was promised to an order; `by` is `None` when the service does it."""
        self._move(session, "release", reserved=-quantity, actor_id=by, order_id=order_id)

    def ship(self, session: Session, quantity: int, *, order_id: UUID, by: int) -> None:
        """Hand over what was promised to an order."""
        self._move(
            session,
            "shipment",
            on_hand=-quantity,
            reserved=-quantity,
            actor_id=by,
            order_id=order_id,
        )

    def take_back(self, session: Session, quantity: int, *, order_id: UUID, by: int) -> None:
        """Put units that came back from an order on sale again.

        Raises:
            StockOutOfRange: there would be more than there can be.
        """
        if self.on_hand + quantity > MAX_STOCK:
            raise StockOutOfRange
        self._move(session, "return", on_hand=quantity, actor_id=by, order_id=order_id)

    def _move(
        self,
        session: Session,
        kind: StockKind,
        *,
        on_hand: int = 0,
        reserved: int = 0,
        actor_id: int | None,
        order_id: UUID | None = None,
        reason: str | None = None,
    ) -> StockEntry:
        self.on_hand += on_hand
        self.reserved += reserved
        entry = StockEntry(
            product_id=self.id,
            kind=kind,
            on_hand=on_hand,
            reserved=reserved,
            order_id=order_id,
            actor_id=actor_id,
            reason=reason,
            created_at=utcnow(),
        )
        session.add(entry)
        return entry


_RESERVE = (
    update(Product)
    .where(Product.id == bindparam("moved"))
    .values(reserved=Product.reserved + bindparam("quantity"), version=Product.version + 1)
)
# The numbers that the database gives to the entries are not asked for.
_ENTER = insert(StockEntry).inline()
