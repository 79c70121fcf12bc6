"""The timeline of an order: each action, with its time and actor."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.money import Money
from models.orders.order_line import LineQuantity
from models.storage.base import Base, UTCDateTime, kept
from models.storage.page import Listing, Page
from models.storage.reader import Reader


class OrderEvent(Base):
    """An action on an order, recorded in the transaction that performs it.

    `number` is the version of the order after the action. `actor_id` is `None` for an automatic
    action of the service.
    """

    __tablename__ = "order_events"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(24))
    actor_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"),
        info=kept("the books need every event; it names an account by number only"),
    )
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    money: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None] = mapped_column(String(3))
    method: Mapped[str | None] = mapped_column(String(40))
    reference: Mapped[str | None] = mapped_column(String(100))
    unapplied_amount: Mapped[int | None] = mapped_column(BigInteger)
    carrier: Mapped[str | None] = mapped_column(String(60))
    tracking_number: Mapped[str | None] = mapped_column(String(100))
    reason: Mapped[str | None] = mapped_column(String(200))
    lines: Mapped[list[LineQuantity]] = mapped_column(JSON, default=list)
    restocked: Mapped[bool | None]

    __table_args__ = (
        # The unique index prevents recording the same payment twice.
        Index(
            None,
            "order_id",
            "method",
            "reference",
            unique=True,
            postgresql_where=text("action = 'pay'"),
            sqlite_where=text("action = 'pay'"),
        ),
        # Few events have a reference or a tracking number.
        *(
            Index(
                None,
                column,
                "order_id",
                postgresql_where=text(f"{column} IS NOT NULL"),
                sqlite_where=text(f"{column} IS NOT NULL"),
            )
            for column in ("reference", "tracking_number")
        ),
    )

    @property
    def amount(self) -> Money | None:
        """The amount that was paid, refunded or bounced, or `None` for other actions."""
        return self._money(self.money)

    @property
    def unapplied(self) -> Money | None:
        """The unapplied money of the order after the action, or `None` if there was none."""
        return self._money(self.unapplied_amount)

    def _money(self, amount: int | None) -> Money | None:
        if amount is None or self.currency is None:
            return None
        return Money(amount, self.currency)

    @classmethod
    def page(
        cls, reader: Reader, order_id: UUID, *, after: list[int] | None, limit: int
    ) -> Page["OrderEvent"]:
        """Return a page of an order's events, oldest first."""
        query = select(cls).where(cls.order_id == order_id)
        return Listing(query, [cls.number]).page(reader, after=after, limit=limit)

    @classmethod
    def payment(
        cls, session: Session, order_id: UUID, *, method: str, reference: str
    ) -> int | None:
        """Return what has not bounced of a payment, or `None` if it is not recorded."""
        same = select(cls.action, cls.money).where(
            cls.order_id == order_id,
            cls.action.in_(("pay", "bounce")),
            cls.method == method,
            cls.reference == reference,
        )
        found = session.execute(same).all()
        if not found:
            return None
        return sum(money or 0 if action == "pay" else -(money or 0) for action, money in found)

    @classmethod
    def was_forgotten(cls, session: Session, order_id: UUID) -> bool:
        """Return whether the personal data of an order were ever removed."""
        query = select(cls.number).where(cls.order_id == order_id, cls.action == "forget")
        return session.scalar(query.limit(1)) is not None

    @classmethod
    def paid_order(cls, session: Session, *, method: str, reference: str) -> UUID | None:
        """Return the order that has a payment, or `None` if no order has it."""
        query = select(cls.order_id).where(cls.reference == reference, cls.method == method)
        return session.scalar(query.where(cls.action == "pay").order_by(cls.order_id).limit(1))
