"""The stock ledger: one row for each change in the units on hand or reserved."""

from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer, String, Uuid, select
from sqlalchemy.orm import Mapped, mapped_column

from models.errors import NotFound
from models.storage.base import Base, BigId, UTCDateTime, kept
from models.storage.page import Listing, Page
from models.storage.reader import Reader

StockKind = Literal["adjustment", "reservation", "release", "shipment", "return"]


class StockEntry(Base):
    """A change in a product's stock. Entries are immutable.

    `on_hand` and `reserved` are the signed changes to the product's fields of the same name.
    """

    __tablename__ = "stock_entries"

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    kind: Mapped[StockKind] = mapped_column(String(16))
    on_hand: Mapped[int] = mapped_column(Integer)
    reserved: Mapped[int] = mapped_column(Integer)
    order_id: Mapped[UUID | None] = mapped_column(Uuid, ForeignKey("orders.id"))
    actor_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"),
        info=kept("the books need every entry; it names an account by number only"),
    )
    reason: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint(kind.in_(get_args(StockKind)), name="kind"),
        Index(None, "product_id", "id"),
        {"sqlite_autoincrement": True},
    )

    @classmethod
    def page(
        cls, reader: Reader, product_id: int, *, after: list[int] | None, limit: int
    ) -> Page["StockEntry"]:
        """Return a page of a product's entries, oldest first."""
        query = select(cls).where(cls.product_id == product_id)
        return Listing(query, [cls.id]).page(reader, after=after, limit=limit)

    @classmethod
    def of(cls, reader: Reader, product_id: int, entry_id: int) -> "StockEntry":
        """Return one entry of a product.

        Raises:
            NotFound: The product has no entry with this id.
        """
        query = select(cls).where(cls.product_id == product_id, cls.id == entry_id)
        entry = reader.scalar(query)
        if entry is None:
            raise NotFound
        return entry
