"""The timeline of an order: who did what to it, and when."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UTCDateTime
from models.money import Money
from models.order_line import LineQuantity
from models.page import Page


class OrderEvent(Base):
    """One thing that happened to an order. It is written once, with the change that it tells of.

    `number` is the version of the order that the change led to. `actor_id` is `None` for what the
    service did by itself.
    """

    __tablename__ = "order_events"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(24))
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    money: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None] = mapped_column(String(3))
    method: Mapped[str | None] = mapped_column(String(40))
    reference: Mapped[str | None] = mapped_column(String(100))
    carrier: Mapped[str | None] = mapped_column(String(60))
    tracking_number: Mapped[str | None] = mapped_column(String(100))
    reason: Mapped[str | None] = mapped_column(String(200))
    lines: Mapped[list[LineQuantity]] = mapped_column(JSON, default=list)

    __table_args__ = (
        # The same payment is recorded once, whoever sends it how often.
        Index(
            None,
            "order_id",
            "method",
            "reference",
            unique=True,
            postgresql_where=text("action = 'pay'"),
            sqlite_where=text("action = 'pay'"),
        ),
    )

    @property
    def amount(self) -> Money | None:
        """The money that moved, if any did."""
        if self.money is None or self.currency is None:
            return None
        return Money(self.money, self.currency)

    @classmethod
    def page(
        cls, session: Session, order_id: UUID, *, after: list[int] | None, limit: int
    ) -> Page["OrderEvent"]:
        """Read an order's events in the order in which they happened."""
        query = select(cls).where(cls.order_id == order_id)
        return Page.read(session, query, [cls.number], after=after, limit=limit)
