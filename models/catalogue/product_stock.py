"""The stock of a product: units on hand and reserved, and every change to them."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Identity, Integer
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.catalogue.stock_entry import StockEntry, StockKind
from models.errors import InvalidQuantity, StockOutOfRange
from models.events.event import Event, NewEvent
from models.storage.base import Base, BigId, Versioned, utcnow

MAX_STOCK = 1_000_000_000
"""Maximum number of units of one product on hand."""


class Stock(NamedTuple):
    """The units of a product on hand, reserved for orders, and available."""

    on_hand: int
    reserved: int
    available: int


class StockedProduct(Versioned, Base):
    """The part of a `Product` that counts its units.

    `on_hand` and `reserved` always equal the sums of the product's `StockEntry` rows, because
    `_move` and `models.catalogue.reserving` change them together.
    """

    __abstract__ = True

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    on_hand: Mapped[int] = mapped_column(Integer, default=0)
    reserved: Mapped[int] = mapped_column(Integer, default=0)

    @property
    def stock(self) -> Stock:
        """The units on hand, reserved and available."""
        return Stock(self.on_hand, self.reserved, self.available)

    @property
    def available(self) -> int:
        """The number of units that can still be ordered."""
        return self.on_hand - self.reserved

    def adjust(self, session: Session, quantity: int, *, reason: str, by: Actor) -> StockEntry:
        """Add units to the stock on hand, or remove them if `quantity` is negative.

        Raises:
            InvalidQuantity: The quantity is zero.
            StockOutOfRange: The stock would fall below the reserved units or exceed its maximum.
        """
        if not quantity:
            raise InvalidQuantity(violations={"/quantity": "must not be 0"})
        if not self.reserved <= self.on_hand + quantity <= MAX_STOCK:
            raise StockOutOfRange
        return self._move(
            session, "adjustment", on_hand=quantity, actor_id=by.user_id, reason=reason
        )

    def reserve_again(
        self, session: Session, quantity: int, *, order_id: UUID, by: int | None
    ) -> None:
        """Reserve units for an order that had released them. They must be available.

        `by` is as in `release`.
        """
        self._move(session, "reservation", reserved=quantity, actor_id=by, order_id=order_id)

    def release(self, session: Session, quantity: int, *, order_id: UUID, by: int | None) -> None:
        """Release units reserved for an order. `by` is `None` if the service does it."""
        self._move(session, "release", reserved=-quantity, actor_id=by, order_id=order_id)

    def ship(self, session: Session, quantity: int, *, order_id: UUID, by: int) -> None:
        """Ship units reserved for an order."""
        self._move(
            session,
            "shipment",
            on_hand=-quantity,
            reserved=-quantity,
            actor_id=by,
            order_id=order_id,
        )

    def take_back(self, session: Session, quantity: int, *, order_id: UUID, by: int) -> None:
        """Return units from an order to the stock on hand.

        Raises:
            StockOutOfRange: The stock would exceed its maximum.
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
        # All changes of one flush are one update of the row, and so one version.
        Event.record(session, stock_event(self.version + 1, entry.__dict__))
        return entry


def stock_event(version: int, entry: Mapping[str, Any]) -> NewEvent:
    """Return the event of an entry in the ledger, which left the product at this version."""
    facts = {name: entry[name] for name in ("product_id", "kind", "on_hand", "reserved")}
    order_id = entry["order_id"]
    facts["order_id"] = None if order_id is None else str(order_id)
    return NewEvent(f"stock.{entry['kind']}", f"products/{entry['product_id']}", version, facts)
