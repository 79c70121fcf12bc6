"""Finding orders by what a customer can read out: an order id, a reference, a tracking number."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, CompoundSelect, Select, false, or_, select, union_all
from sqlalchemy.sql.elements import SQLCoreOperations

from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.storage.filtering import unindexed

_HEX_DIGITS = 32
_PREFIX = re.compile(r"[0-9a-f]{1,32}")


@dataclass(frozen=True, slots=True)
class Named:
    """The selection of orders with an id prefix, a payment reference or a tracking number."""

    text: str

    @property
    def found(self) -> ColumnElement[bool]:
        """The orders, looked up in three indexes."""
        return Order.id.in_(self._ids())

    @property
    def checked(self) -> ColumnElement[bool]:
        """The same condition, checked for an order and its events."""
        events = select(OrderEvent.number).where(
            OrderEvent.order_id == Order.id, or_(*self._of_events())
        )
        return self._id_range(unindexed(Order.id)) | events.offset(0).exists()

    def matches(self, _branch: ColumnElement[bool]) -> Select[Any]:
        """Return a query of the ids; an order can be among them several times."""
        return select(self._ids().subquery())

    def _ids(self) -> CompoundSelect[*tuple[UUID]]:
        by_events = (select(OrderEvent.order_id).where(each) for each in self._of_events())
        return union_all(select(Order.id).where(self._id_range(Order.id)), *by_events)

    def _of_events(self) -> tuple[ColumnElement[bool], ...]:
        return OrderEvent.reference == self.text, OrderEvent.tracking_number == self.text

    def _id_range(self, column: SQLCoreOperations[UUID]) -> ColumnElement[bool]:
        digits = self.text.lower().replace("-", "")
        if not _PREFIX.fullmatch(digits):
            return false()
        least, most = digits.ljust(_HEX_DIGITS, "0"), digits.ljust(_HEX_DIGITS, "f")
        return (column >= UUID(least)) & (column <= UUID(most))
