"""The money of an order: the amounts received, applied to the total, refunded and due."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from models.money import Money

_ENDED = frozenset({"cancelled", "expired", "refunded"})
"""States in which an order needs no money, so that all that it holds is to be refunded."""


class OrderBalance(NamedTuple):
    """The amounts of an order. The fields after `status` and `currency` are those of `Order`.

    Invariant: `paid` is the sum of `applied`, `unapplied` and `refunded`, whatever happened to the
    order, in any sequence.
    """

    status: str
    currency: str
    total_amount: int
    paid_amount: int = 0
    refunded_amount: int = 0
    bounced_amount: int = 0
    unapplied_amount: int = 0
    unapplied_refunded_amount: int = 0

    @property
    def held(self) -> int:
        """The amount that has been received and neither refunded nor bounced."""
        settled = self.paid_amount - self.refunded_amount - self.bounced_amount
        return settled + self.unapplied_amount

    @property
    def applied(self) -> int:
        """The part of the held amount that is applied to the order."""
        return 0 if self.status in _ENDED else self.held - self.unapplied_amount

    @property
    def total(self) -> Money:
        """The total price of all lines."""
        return Money(self.total_amount, self.currency)

    @property
    def paid(self) -> Money:
        """The sum of all payments that have not bounced, before refunds."""
        settled = self.paid_amount - self.bounced_amount
        surplus = self.unapplied_amount + self.unapplied_refunded_amount
        return Money(settled + surplus, self.currency)

    @property
    def refunded(self) -> Money:
        """The sum of all refunds."""
        return Money(self.refunded_amount + self.unapplied_refunded_amount, self.currency)

    @property
    def unapplied(self) -> Money:
        """The part of the held amount that is not applied to the order and waits for a refund."""
        amount = self.held if self.status in _ENDED else self.unapplied_amount
        return Money(amount, self.currency)

    @property
    def due(self) -> Money:
        """The amount that is still to be paid."""
        return Money(self.due_amount, self.currency)

    @property
    def due_amount(self) -> int:
        """The amount of `due`."""
        if self.status in _ENDED:
            return 0
        return self.total_amount - self.paid_amount + self.bounced_amount

    @property
    def ruled_out(self) -> tuple[str, ...]:
        """The actions that the state allows but the amounts rule out."""
        none_held = () if self.held else ("bounce", "refund")
        return (*none_held, "ship") if self.due_amount else none_held


class _UnitCounts(Protocol):
    """The fields of a line that decide whether anything of it can be returned or cancelled."""

    @property
    def quantity(self) -> int: ...
    @property
    def shipped(self) -> int: ...
    @property
    def returned(self) -> int: ...


class _HasBalance(Protocol):
    """An order with its balance and its lines."""

    @property
    def owner_erased(self) -> bool: ...
    @property
    def balance(self) -> OrderBalance: ...
    @property
    def lines(self) -> Sequence[_UnitCounts]: ...


class Balanced:
    """What an order, as a row or as a view, tells of its balance. `OrderBalance` explains it."""

    __slots__ = ()

    @property
    def total(self: _HasBalance) -> Money:
        """As in `OrderBalance`."""
        return self.balance.total

    @property
    def paid(self: _HasBalance) -> Money:
        """As in `OrderBalance`."""
        return self.balance.paid

    @property
    def refunded(self: _HasBalance) -> Money:
        """As in `OrderBalance`."""
        return self.balance.refunded

    @property
    def unapplied(self: _HasBalance) -> Money:
        """As in `OrderBalance`."""
        return self.balance.unapplied

    @property
    def due(self: _HasBalance) -> Money:
        """As in `OrderBalance`."""
        return self.balance.due

    @property
    def ruled_out(self: _HasBalance) -> tuple[str, ...]:
        """The actions that the state allows, and the order's amounts, lines or owner do not."""
        units, none_left = 0, True
        for line in self.lines:
            units += line.quantity
            none_left = none_left and line.shipped == line.returned
        ruled_out = self.balance.ruled_out
        if self.owner_erased:
            ruled_out += ("update",)
        if none_left:
            ruled_out += ("return",)
        return (*ruled_out, "reduce") if units == 1 else ruled_out
