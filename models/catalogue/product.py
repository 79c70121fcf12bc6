"""Products, their prices and their stock."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Index,
    String,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.catalogue.product_search import PRODUCT_WORDS
from models.catalogue.product_stock import StockedProduct
from models.errors import (
    NotFound,
    SkuTaken,
)
from models.events.event import Event, NewEvent
from models.files.picture import Picture, PictureFile, PicturesType
from models.files.stored_picture import PictureUse
from models.money import Money
from models.storage.base import UTCDateTime, utcnow
from models.storage.reader import Reader
from models.text import COLLATION_KEY_LENGTH, collation_key

_ROWS_THAT_EXIST: dict[str, Any] = dict.fromkeys(
    ("postgresql_where", "sqlite_where"), text("archived_at IS NULL")
)


class ProductImage(NamedTuple):
    """An image of a product, in three sizes."""

    position: int
    original: PictureFile
    medium: PictureFile
    small: PictureFile


class Price(TypedDict):
    """A price in a request, with `amount` in minor units."""

    amount: int
    currency: str


class ProductChanges(TypedDict, total=False):
    """The fields given to create or change a product. Omitted fields stay unchanged."""

    sku: str
    name: str
    description: str
    price: Price
    active: bool
    metadata: dict[str, str]


class Product(StockedProduct):
    """A product for sale.

    `version` counts every change, including changes in stock. An archived product exists only for
    the orders that refer to it.
    """

    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    # SQLite enforces no lengths, so there the column keeps the type that it was created with.
    name_key: Mapped[str] = mapped_column(
        String(48).with_variant(String(COLLATION_KEY_LENGTH, collation="C"), "postgresql")
    )
    description: Mapped[str] = mapped_column(Text)
    price_amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    active: Mapped[bool] = mapped_column(default=True)
    pictures: Mapped[Mapping[int, Picture]] = mapped_column(
        PicturesType, default=dict, server_default="{}"
    )
    labels: Mapped[dict[str, str]] = mapped_column("metadata", JSON, default=dict)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, onupdate=utcnow)
    archived_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint("reserved >= 0 AND reserved <= on_hand", name="reserved"),
        CheckConstraint("price_amount >= 0", name="price"),
        Index("uq_products_sku", func.lower(sku), unique=True, **_ROWS_THAT_EXIST),
        # Each sort order of the list has an index, which starts with the filter on `active` that
        # every list uses.
        Index(None, "active", "id", **_ROWS_THAT_EXIST),
        Index(None, "active", "name_key", "id", **_ROWS_THAT_EXIST),
        Index(None, "active", "price_amount", "id", **_ROWS_THAT_EXIST),
        Index(None, "active", "currency", "price_amount", "id", **_ROWS_THAT_EXIST),
        {"sqlite_autoincrement": True},
    )

    @classmethod
    def create(cls, session: Session, values: ProductChanges) -> "Product":
        """Create a product without any stock.

        Raises:
            SkuTaken: Another product has the SKU, ignoring case.
        """
        now = utcnow()
        product = cls(description="", created_at=now, updated_at=now)
        session.add(product)
        product.change(session, values)
        return product

    @classmethod
    def exists(cls) -> ColumnElement[bool]:
        """Return the SQL condition that every query starts with: the product is not archived."""
        return cls.archived_at.is_(None)

    @classmethod
    def seen_by(cls, actor: Actor | None) -> ColumnElement[bool]:
        """Return the SQL condition for the products visible to the actor, or to the public."""
        everything = actor is not None and actor.is_admin
        return cls.exists() if everything else cls.exists() & cls.active

    @classmethod
    def visible_to(cls, reader: Reader, actor: Actor | None, product_id: int) -> "Product":
        """Return one product.

        Raises:
            NotFound: The product does not exist or is not visible to the actor.
        """
        product = reader.scalar(select(cls).where(cls.seen_by(actor), cls.id == product_id))
        if product is None:
            raise NotFound
        return product

    @classmethod
    def lock_visible(cls, session: Session, actor: Actor, product_id: int) -> "Product":
        """Return one product, locked until the transaction ends, for an administrator.

        Raises:
            NotFound: The product does not exist or the actor is not an administrator.
        """
        product = cls.locked(session, [product_id]).get(product_id)
        if product is None or product.archived_at is not None or not actor.is_admin:
            raise NotFound
        return product

    @classmethod
    def locked(cls, session: Session, product_ids: Iterable[int]) -> Mapping[int, "Product"]:
        """Lock and return products, by id, until the transaction ends.

        Products are locked in order of id to prevent deadlocks. Archived products are included,
        because orders may still have to release their stock.
        """
        query = select(cls).where(cls.id.in_(product_ids)).order_by(cls.id)
        # Objects already in the session may be older than the lock, so they are refreshed.
        current = query.with_for_update(key_share=True).execution_options(populate_existing=True)
        rows = session.scalars(current)
        return {product.id: product for product in rows}

    @property
    def price(self) -> Money:
        """The price of one unit."""
        return Money(self.price_amount, self.currency)

    @property
    def images(self) -> list[ProductImage]:
        """The product's images, by position."""
        return [ProductImage(position, *each.files) for position, each in self.pictures.items()]

    @property
    def can_be_ordered(self) -> bool:
        """Whether new orders may include the product, regardless of its stock."""
        return self.active and self.archived_at is None

    def change(self, session: Session, changes: ProductChanges) -> None:
        """Change the given fields. Existing orders keep their name and price.

        Raises:
            SkuTaken: Another product has the SKU, ignoring case.
        """
        before = self.version
        if "price" in changes:
            self.price_amount = changes["price"]["amount"]
            self.currency = changes["price"]["currency"]
        if "metadata" in changes:
            self.labels = changes["metadata"]
        for name in ("sku", "name", "description", "active"):
            if name in changes:
                setattr(self, name, changes[name])
        if "name" in changes:
            self.name_key = collation_key(self.name)
        try:
            # The flush assigns the id that the search terms need. It also lets the unique index
            # detect a SKU that two requests take concurrently.
            session.flush()
        except IntegrityError as error:
            if "uq_products_sku" in str(error.orig):
                raise SkuTaken from None
            raise
        if not changes.keys().isdisjoint({"sku", "name"}):
            PRODUCT_WORDS.replace(session, self.id, f"{self.name} {self.sku}")
        if self.version != before:
            Event.record(session, self._event("update" if before else "create", self.version))

    def set_image(self, session: Session, position: int, picture: Picture | None) -> None:
        """Set the image at a position, or remove it if there is one."""
        others = {key: each for key, each in self.pictures.items() if key != position}
        added = {} if picture is None else {position: picture}
        PictureUse.by_product(session, self.id, position, picture)
        before = self.version
        self.pictures = dict(sorted({**others, **added}.items()))
        # The flush counts the version that the event has.
        session.flush()
        if self.version != before:
            Event.record(session, self._event("update", self.version))

    def archive(self, session: Session) -> None:
        """Remove the product from the catalogue permanently. Reserved stock stays reserved."""
        for position in self.pictures:
            PictureUse.by_product(session, self.id, position, None)
        self.pictures = {}
        self.active = False
        self.archived_at = utcnow()
        Event.record(session, self._event("archive", self.version + 1))

    def _event(self, action: str, version: int) -> NewEvent:
        facts = {
            "id": self.id,
            "sku": self.sku,
            "name": self.name,
            "price": {"amount": self.price_amount, "currency": self.currency},
            "active": self.active,
        }
        return NewEvent(f"product.{action}", f"products/{self.id}", version, facts)
