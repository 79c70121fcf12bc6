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
    def paid(self) -> Money:
        """The sum of all payments that have not bounced, before refunds."""
        return Money(self.held + self.refunded.amount, self.currency)

    @property
    def refunded(self) -> Money:
        """The sum of all refunds."""
        return Money(self.refunded_amount + self.unapplied_refunded_amount, self.currency)

    @property
    def unapplied(self) -> Money:
        """The part of the held amount that is not applied to the order and waits for a refund."""
        return Money(self.held - self.applied, self.currency)

    @property
    def due(self) -> Money:
        """The amount that is still to be paid."""
        due = self.total_amount - self.paid_amount + self.bounced_amount
        return Money(0 if self.status in _ENDED else due, self.currency)

    @property
    def ruled_out(self) -> tuple[str, ...]:
        """The actions that the state allows but the amounts rule out."""
        none_held = () if self.held else ("bounce", "refund")
        return (*none_held, "ship") if self.due.amount else none_held


class _Returnable(Protocol):
    """The fields of a line that decide whether anything of it can be returned."""

    @property
    def shipped(self) -> int: ...
    @property
    def returned(self) -> int: ...


class _HasBalance(Protocol):
    """An order with its balance and its lines."""

    @property
    def balance(self) -> OrderBalance: ...
    @property
    def lines(self) -> Sequence[_Returnable]: ...


class Balanced:
    """What an order, as a row or as a view, tells of its balance. `OrderBalance` explains it."""

    __slots__ = ()

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
        """The actions that the state allows, and the amounts and lines do not."""
        if any(line.shipped > line.returned for line in self.lines):
            return self.balance.ruled_out
        return (*self.balance.ruled_out, "return")
