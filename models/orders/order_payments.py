"""The money of an order: payments, bounced payments and refunds."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from models.actor import Actor
from models.catalogue.product import Price, Product
from models.errors import (
    BounceExceedsPayment,
    InvalidAmount,
    PaymentRecorded,
    RefundExceedsPaid,
    UnknownPayment,
)
from models.lifecycle import Lifecycle
from models.money import MAX_AMOUNT
from models.orders.order_event import OrderEvent
from models.orders.order_line import LineQuantity, require_quantities
from models.orders.order_row import RESERVING
from models.orders.order_shipments import OrderShipments
from models.storage.base import utcnow

_SETTLED_BY_REFUND = frozenset({"paid", "partially_shipped", "shipped", "delivered"})
"""States that a full refund turns into `refunded`."""


class OrderPayments(OrderShipments):
    """The actions of `Order` that move money. A refund can restock goods as well."""

    __abstract__ = True

    def pay(
        self,
        session: Session,
        lifecycle: Lifecycle,
        amount: Price,
        *,
        method: str,
        reference: str,
        by: Actor | None,
    ) -> None:
        """Record a payment made outside Concord. The order is paid once the full total is paid.

        `by` is `None` if a payment provider reported it.

        Whatever exceeds the amount due is unapplied, and so is every payment of an order that has
        ended. An expired order is paid once it holds the full total and its stock is still
        available.

        Raises:
            InvalidAmount: The amount is zero, too large or in another currency.
            PaymentRecorded: A payment with this method and reference is already recorded.
        """
        self.check(lifecycle, "pay")
        self._require_amount(amount)
        money = amount["amount"]
        if OrderEvent.payment(session, self.id, method=method, reference=reference) is not None:
            raise PaymentRecorded
        if self.paid.amount + money > MAX_AMOUNT:
            raise InvalidAmount(
                violations={"/amount/amount": "exceeds the maximum of all payments"}
            )
        revived = self._lock_revivable(session, money)
        applied = min(money, self.due.amount)
        covered = min(applied, self.bounced_amount)
        self.bounced_amount -= covered
        self.paid_amount += applied - covered
        self.unapplied_amount += money - applied
        if revived:
            self._revive(session, revived, by)
        if revived or (applied and self.status == "pending" and not self.due.amount):
            self.status = lifecycle.target(self.status, "pay", "paid")
            self.expires_at = None
        paid = OrderEvent(money=money, method=method, reference=reference)
        self.record(session, "pay", by, paid)

    def bounce(
        self,
        session: Session,
        lifecycle: Lifecycle,
        amount: Price | None,
        *,
        method: str,
        reference: str,
        reason: str | None,
        reservation: timedelta,
        by: Actor | None,
    ) -> None:
        """Record that a payment, or `amount` of it, was returned to the payer without a refund.

        If this leaves a paid order short of its total, the order is pending again, for at most
        `reservation`. A partially or fully shipped order keeps its state, and the money is due.
        `by` is as in `pay`.

        Raises:
            IllegalTransition: No money is held that could bounce.
            InvalidAmount: The amount is zero or in another currency.
            UnknownPayment: No payment with this method and reference is recorded.
            BounceExceedsPayment: The amount exceeds the remaining payment or the held amount.
        """
        self.check(lifecycle, "bounce")
        if amount is not None:
            self._require_amount(amount)
        payment = OrderEvent.payment(session, self.id, method=method, reference=reference)
        if payment is None:
            raise UnknownPayment(violations={"/reference": "is not a payment of the order"})
        left = min(payment, self.balance.held)
        money = left if amount is None else amount["amount"]
        if money > left or not left:
            raise BounceExceedsPayment(remaining={"amount": left, "currency": self.currency})
        surplus = min(money, self.unapplied_amount)
        self.unapplied_amount -= surplus
        self.bounced_amount += money - surplus
        if self.status == "paid" and self.due.amount:
            self.status = lifecycle.target(self.status, "bounce", "pending")
            self.expires_at = utcnow() + reservation
        bounced = OrderEvent(money=money, method=method, reference=reference, reason=reason)
        self.record(session, "bounce", by, bounced)

    def refund(
        self,
        session: Session,
        lifecycle: Lifecycle,
        amount: Price | None,
        *,
        reason: str | None,
        restock: Sequence[LineQuantity],
        by: Actor,
    ) -> None:
        """Refund `amount`, or the whole refundable amount if it is `None`.

        Unapplied money is refunded first. `restock` lists returned goods that can be sold again.
        Once no money is applied to the total any more, the stock of unshipped goods is released.

        Raises:
            IllegalTransition: The order's state does not allow refunds.
            InvalidAmount: The amount is zero or in another currency.
            RefundExceedsPaid: The amount exceeds the refundable amount, or nothing can be refunded.
            InvalidLines, UnknownProduct, QuantityExceeded: `restock` does not match the shipped
                goods that have not been returned.
            StockOutOfRange: The stock would exceed its maximum.
        """
        self.check(lifecycle, "refund")
        left, applied = self.balance.held, self.balance.applied
        if amount is not None:
            self._require_amount(amount)
        money = left if amount is None else amount["amount"]
        if money > left or not left:
            raise RefundExceedsPaid(refundable={"amount": left, "currency": self.currency})
        require_quantities(restock, self.left_to_return, member="restock")
        products = self.lock_products(session)
        self._take_back(session, restock, products, by)
        surplus = min(money, self.unapplied_amount)
        self.unapplied_amount -= surplus
        self.unapplied_refunded_amount += surplus
        self.refunded_amount += money - surplus
        if applied and not self.balance.applied and self.status in _SETTLED_BY_REFUND:
            if self.status in RESERVING:
                self.release(session, products, by)
            self.status = lifecycle.target(self.status, "refund", "refunded")
        refunded = OrderEvent(money=money, reason=reason, lines=list(restock))
        self.record(session, "refund", by, refunded)

    def _lock_revivable(self, session: Session, money: int) -> Mapping[int, Product] | None:
        """Lock and return the products, if `money` pays an expired order whose stock is available.

        An order whose personal data were removed has no address any more, and stays expired.
        """
        if self.status != "expired" or self.balance.held + money < self.total_amount:
            return None
        if self.is_owner_erased(session) or OrderEvent.was_forgotten(session, self.id):
            return None
        products = self.lock_products(session)
        if any(products[line.product_id].available < line.quantity for line in self.lines):
            return None
        return products

    def _revive(self, session: Session, products: Mapping[int, Product], by: Actor | None) -> None:
        """Reserve the stock again, and apply all money that is held to the total."""
        surplus = self.balance.held - self.total_amount
        for line in self.lines:
            if not line.quantity:
                continue
            product = products[line.product_id]
            user_id = None if by is None else by.user_id
            product.reserve_again(session, line.quantity, order_id=self.id, by=user_id)
        self.unapplied_refunded_amount += self.refunded_amount
        self.paid_amount, self.unapplied_amount = self.total_amount, surplus
        self.refunded_amount = self.bounced_amount = 0

    def lower_total(self, total: int) -> None:
        """Lower the total of the order, and decide what becomes of the money beyond it.

        Earlier refunds count first, as refunds of what was cancelled. Bounced money is then no
        longer due. The rest becomes unapplied.
        """
        excess = max(0, self.paid_amount - total)
        refunded = min(excess, self.refunded_amount)
        bounced = min(excess - refunded, self.bounced_amount)
        self.total_amount = total
        self.paid_amount -= excess
        self.refunded_amount -= refunded
        self.unapplied_refunded_amount += refunded
        self.bounced_amount -= bounced
        self.unapplied_amount += excess - refunded - bounced

    def _require_amount(self, amount: Price) -> None:
        if amount["currency"] != self.currency:
            raise InvalidAmount(
                "The amount must be in the currency of the order.",
                violations={"/amount/currency": "must be the currency of the order"},
            )
        if not amount["amount"]:
            raise InvalidAmount(violations={"/amount/amount": "must be at least 1"})
