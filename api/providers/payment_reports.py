"""Events of payment providers, read as reports of payments and bounces."""

from contextlib import suppress
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.contract import strict_json
from models.catalogue.product import Price
from models.errors import InvalidPaymentEvent
from models.money import currencies
from models.payments.payment_event import Report

T = TypeVar("T", bound=BaseModel)

STRIPE = "stripe"
"""The provider whose events are Stripe's; those of all others are Standard Webhooks."""
# Stripe counts these currencies with other decimal places than ISO 4217
# (https://docs.stripe.com/currencies#special-cases).
_STRIPE_DIGITS = {"ISK": 2, "MGA": 0, "UGX": 2}
_Id = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[ -~]+$")]
_Reason = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class _Part(BaseModel):
    # Building the validators takes 20 ms, and few installations use a payment provider.
    model_config = ConfigDict(strict=True, defer_build=True)


class _Event(_Part):
    type: str
    data: dict[str, object]


class _Intent(_Part):
    id: _Id
    amount_received: int
    currency: str
    metadata: dict[str, str] = {}


class _Dispute(_Part):
    id: _Id
    amount: int
    currency: str
    payment_intent: _Id | None = None
    reason: _Reason | None = None


class _Amount(_Part):
    amount: int
    currency: str


class _Payment(_Part):
    order_id: str
    amount: _Amount
    reference: _Id


class _Bounce(_Part):
    order_id: str
    amount: _Amount | None = None
    reference: _Id
    reason: _Reason | None = None


def read_stripe_event(body: bytes) -> Report | None:
    """Read a verified event of Stripe; return `None` if it is of no concern to an order.

    Money moves when a dispute withdraws or reinstates it. A dispute without a `payment_intent` and
    a payment without an `order_id` in its metadata do not come from an order. Stripe may send two
    events about the same fact, so the type and the object identify it.

    Raises:
        InvalidPaymentEvent: The event is not like those that Stripe documents.
    """
    event = _read(body)
    match event.type:
        case "payment_intent.succeeded":
            intent = _parse(_Intent, event.data.get("object"), "/data/object")
            if "order_id" not in intent.metadata:
                return None
            return Report(
                STRIPE,
                f"{event.type}/{intent.id}",
                "payment",
                reference=intent.id,
                order_id=_order_id(intent.metadata["order_id"]),
                amount=_stripe_amount(intent.amount_received, intent.currency),
            )
        case "charge.dispute.funds_withdrawn" | "charge.dispute.funds_reinstated":
            dispute = _parse(_Dispute, event.data.get("object"), "/data/object")
            if dispute.payment_intent is None:
                return None
            is_back = event.type == "charge.dispute.funds_reinstated"
            return Report(
                STRIPE,
                f"{event.type}/{dispute.id}",
                "payment" if is_back else "bounce",
                # Money that is back is another payment than the one that bounced.
                reference=dispute.id if is_back else dispute.payment_intent,
                paid_as=dispute.payment_intent,
                amount=_stripe_amount(dispute.amount, dispute.currency),
                reason=dispute.reason,
            )
    return None


def read_standard_event(provider: str, identifier: str, body: bytes) -> Report | None:
    """Read a verified event of another provider; `identifier` is its `webhook-id`.

    Raises:
        InvalidPaymentEvent: The event is not like those that the guide declares.
    """
    event = _read(body)
    match event.type:
        case "payment.succeeded":
            paid = _parse(_Payment, event.data, "/data")
            return Report(
                provider,
                identifier,
                "payment",
                reference=paid.reference,
                order_id=_order_id(paid.order_id),
                amount=_price(paid.amount),
            )
        case "payment.bounced":
            bounced = _parse(_Bounce, event.data, "/data")
            return Report(
                provider,
                identifier,
                "bounce",
                reference=bounced.reference,
                order_id=_order_id(bounced.order_id),
                amount=None if bounced.amount is None else _price(bounced.amount),
                reason=bounced.reason,
            )
    return None


def _read(body: bytes) -> _Event:
    try:
        event = strict_json.parse(body)
    except strict_json.NotStrictJSON as error:
        raise InvalidPaymentEvent(violations={"": f"cannot be read: {error}"}) from None
    return _parse(_Event, event, "")


def _parse(kind: type[T], value: object, place: str) -> T:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _invalid(error, place) from None


def _invalid(error: ValidationError, place: str) -> InvalidPaymentEvent:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    violations = {
        "/".join((place, *map(str, fault["loc"]))): "is missing or not of the documented form"
        for fault in faults
    }
    return InvalidPaymentEvent(violations=violations)


def _order_id(text: str) -> UUID | None:
    with suppress(ValueError):
        return UUID(text)
    return None


def _price(amount: _Amount) -> Price:
    return Price(amount=amount.amount, currency=amount.currency)


def _stripe_amount(amount: int, currency: str) -> Price:
    code = currency.upper()
    if code in currencies() and code in _STRIPE_DIGITS:
        amount = amount * 10 ** currencies()[code].minor_units // 10 ** _STRIPE_DIGITS[code]
    return Price(amount=amount, currency=code)
