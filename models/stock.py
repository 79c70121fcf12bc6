"""The ledger of stock: one row for each change of what there is, and of what is promised."""

from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer, String, Uuid, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, BigId, UTCDateTime
from models.errors import NotFound
from models.page import Page

StockKind = Literal["adjustment", "reservation", "release", "shipment", "return"]


class StockEntry(Base):
    """One change of a product's stock. It is written once and never changed.

    `on_hand` and `reserved` are what was added to the product's numbers of the same name.
    """

    __tablename__ = "stock_entries"

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    kind: Mapped[StockKind] = mapped_column(String(16))
    on_hand: Mapped[int] = mapped_column(Integer)
    reserved: Mapped[int] = mapped_column(Integer)
    order_id: Mapped[UUID | None] = mapped_column(Uuid, ForeignKey("orders.id"))
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    reason: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (
        CheckConstraint(kind.in_(get_args(StockKind)), name="kind"),
        Index(None, "product_id", "id"),
        {"sqlite_autoincrement": True},
    )

    @classmethod
    def page(
        cls, session: Session, product_id: int, *, after: list[int] | None, limit: int
    ) -> Page["StockEntry"]:
        """Read a product's entries in the order in which they were made."""
        query = select(cls).where(cls.product_id == product_id)
        return Page.read(session, query, [cls.id], after=after, limit=limit)

    @classmethod
    def of(cls, session: Session, product_id: int, entry_id: int) -> "StockEntry":
        """Read one entry of a product.

        Raises:
            NotFound: the product has no such entry.
        """
        query = select(cls).where(cls.product_id == product_id, cls.id == entry_id)
        entry = session.scalar(query)
        if entry is None:
            raise NotFound
        return entry
