"""Domain errors: one class for each kind, independent of HTTP status codes."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


class DomainError(Exception):
    """A request that violates a business rule.

    `detail` is a sentence for the person who sent the request. `violations` maps the JSON Pointer
    (RFC 6901) of each invalid part of the body to the reason. `extensions` are further members for
    programs. All of these are public and never repeat text from the request.
    """

    detail: str = "The request was refused."
    keeps_changes: ClassVar[bool] = False
    """Whether changes made before the error are committed, such as a failure count."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        violations: Mapping[str, str] = MappingProxyType({}),
        **extensions: JSON,
    ) -> None:
        if detail is not None:
            self.detail = detail
        self.violations = violations
        self.extensions: Mapping[str, JSON] = MappingProxyType(extensions)
        super().__init__(self.detail)


class NotFound(DomainError):
    """The resource does not exist or is not visible to the caller. Both cases look the same."""

    detail = "There is no such resource."


class InvalidPicture(DomainError):
    """The file is not a picture that can be decoded within limits."""

    detail = "The file is not a valid PNG, JPEG, WebP, GIF or AVIF picture."


class StorageUnavailable(DomainError):
    """The file store failed."""

    detail = "The file store is unavailable; try again shortly."


class AccessEnded(DomainError):
    """The caller's tokens ended, or their account was erased, after authentication."""

    detail = "The bearer token is invalid, expired or revoked."


class EventsExpired(DomainError):
    """The event after which the feed should continue is no longer kept."""

    detail = "The event given in `after` is no longer kept."


class EmailTaken(DomainError):
    """Another account has this email address or an equal one (see `EmailAddress`)."""

    detail = "An account with this email address already exists."


class InvalidEmail(DomainError):
    """The text is not a valid email address."""

    detail = "This is not a valid email address."


class InvalidName(DomainError):
    """The text is not a valid name of a person."""

    detail = "This is not a valid name."


class WeakPassword(DomainError):
    """The password is too weak. `detail` gives the reason."""

    detail = "This password is easy to guess."


class ProofNeeded(DomainError):
    """A change reserved for the owner lacks the current password or a code."""

    def __init__(self, member: str, detail: str) -> None:
        super().__init__(detail)
        self.member = member


class WrongPassword(DomainError):
    """The current password, required for a sensitive change, is incorrect."""

    detail = "The current password is incorrect."
    keeps_changes = True


class WrongCredentials(DomainError):
    """The email address or password is incorrect, or the account is disabled.

    The error does not reveal which.
    """

    detail = "Incorrect email address or password."


class InvalidRefreshToken(DomainError):
    """The refresh token is unknown or already used, or its session has ended.

    The error does not reveal which.
    """

    detail = "The refresh token is unknown or already used, or its session has ended."
    keeps_changes = True


class InvalidChallenge(DomainError):
    """The challenge of a sign-in is unknown, completed or expired.

    The error does not reveal which.
    """

    detail = "No pending sign-in matches this challenge; sign in again."


class SecondFactorRequired(DomainError):
    """The password is correct, but a code of the second factor is also required."""

    detail = "A second-factor code is required; send it with the challenge."


class WrongCode(DomainError):
    """The code is incorrect or already used, or too many codes were tried.

    The error does not reveal which.
    """

    detail = "The code is incorrect or already used, or too many were tried."
    keeps_changes = True


class EmailUnverified(DomainError):
    """The account's email address has not been verified."""

    detail = "Verify the account's email address first; a link can be sent to it."


class OrdersOpen(DomainError):
    """The account has orders that are paid but not delivered, and therefore need their address."""

    detail = "This account has orders that are still to be delivered; see orders."


class OwnerErased(DomainError):
    """The account of the order's owner was erased, so no personal data may be added."""

    detail = "The owner of this order has been erased; no personal data can be added."


class SecondFactorActive(DomainError):
    """The account has an active second factor, which must be disabled before enrolling another."""

    detail = "The second factor is already active; disable it to set up another app."


class SecondFactorInactive(DomainError):
    """The account has no active second factor or, when confirming one, no pending enrolment."""

    detail = "There is no second factor; set up an authenticator app first."


class PasswordChangeRequired(DomainError):
    """The password is correct, but an administrator requires a new one."""

    detail = "A new password is required; request a password reset to set one."


class TooManyKeys(DomainError):
    """The account has the maximum number of API keys."""

    detail = "The account has reached its limit of API keys; delete some first."


class InvalidLink(DomainError):
    """The link is unknown, already used or expired. The error does not reveal which."""

    detail = "This link is invalid, already used or expired; request a new one."


class TooManyWebhooks(DomainError):
    """The service has the maximum number of webhook endpoints."""

    detail = "The limit of webhook endpoints is reached; delete some first."


class InvalidWebhookUrl(DomainError):
    """Events cannot be sent to the URL."""

    detail = "The URL cannot receive events."


class NotPermitted(DomainError):
    """The caller is authenticated but lacks permission."""

    detail = "You are not permitted to do this."


class LastAdministrator(DomainError):
    """The change would leave the service without an active administrator."""

    detail = "The last active administrator cannot be demoted, disabled or deleted."


class VersionMismatch(DomainError):
    """The row has none of the versions that the caller is willing to change."""

    detail = "The resource's current version does not meet the request's conditions."


class IllegalTransition(DomainError):
    """The current state of the resource does not allow the action."""

    def __init__(self, state: str, action: str, allowed_actions: Sequence[str]) -> None:
        allowed = ", ".join(allowed_actions) or "none"
        super().__init__(
            f"The state {state} does not allow the action {action}; it allows: {allowed}.",
            state=state,
            allowed_actions=tuple(allowed_actions),
        )


class IdempotencyInFlight(DomainError):
    """The first request with this idempotency key is still running."""

    detail = "The first request with this Idempotency-Key is still running; try again shortly."


class IdempotencyKeyReused(DomainError):
    """The idempotency key was already used for a different request."""

    detail = "This Idempotency-Key was used for another request; use a new key for this one."


class SkuTaken(DomainError):
    """Another product has this SKU, ignoring case."""

    detail = "A product with this SKU already exists."


class StockOutOfRange(DomainError):
    """The stock would fall below the reserved units or exceed its maximum."""

    detail = "The stock would fall below the reserved quantity or exceed the maximum."


class OutOfStock(DomainError):
    """A product has too few units available. Nothing was reserved."""

    detail = "There is not enough stock for this order; see shortages."


class PriceChanged(DomainError):
    """The total of an order differs from what the buyer expects. Nothing was reserved."""

    detail = "The total of the order differs from the expected total; see prices."


class UnknownUser(DomainError):
    """The account that an order is placed for does not exist or is not visible to the actor."""

    detail = "There is no account with this id."


class UnknownProduct(DomainError):
    """A line names a product that does not exist, is not on sale, or is not part of the order."""

    detail = "A line names a product that is not available here."


class MixedCurrencies(DomainError):
    """The products of an order are priced in different currencies."""

    detail = "All lines of an order must be priced in one currency."


class InvalidLines(DomainError):
    """A product appears on more than one line."""

    detail = "A product may appear on only one line."


class InvalidQuantity(DomainError):
    """The quantity of a stock change is zero."""

    detail = "The quantity is invalid."


class InvalidAmount(DomainError):
    """An amount of money is zero, too large or in the wrong currency."""

    detail = "The amount is invalid."


class BounceExceedsPayment(DomainError):
    """The bounced amount exceeds the remaining payment."""

    detail = "The bounced amount exceeds the remaining payment."


class PaymentRecorded(DomainError):
    """The order already has a payment with this method and reference."""

    detail = "A payment with this method and reference is already recorded for the order."


class UnknownPayment(DomainError):
    """The order has no payment with this method and reference."""

    detail = "The order has no payment with this method and reference."


class PaymentNotRecorded(DomainError):
    """A provider's event is about a payment that is not recorded yet."""

    detail = "The payment is not recorded yet; send the event again later."


class InvalidPaymentEvent(DomainError):
    """A provider signed an event that lacks a member, or has one of another type."""

    detail = "The event is not one that this version of the service can read."


class RefundExceedsPaid(DomainError):
    """The refund exceeds the refundable amount, or nothing can be refunded."""

    detail = "The refund exceeds the amount that can be refunded."


class OrderEmpty(DomainError):
    """Reducing the order would cancel all of its units."""

    detail = "No units would be left in the order; cancel it instead."


class QuantityExceeded(DomainError):
    """A quantity exceeds the units left in the order."""

    detail = "The quantity exceeds the units that remain in the order."


class ImpossibleDivision(DomainError):
    """The division has no result, because the divisor is zero."""

    detail = "Division by zero has no result."


class DatabaseUnavailable(DomainError):
    """The database is unreachable, full, or too busy to respond in time.

    No change is confirmed to have been made.
    """

    detail = "The database is unavailable; try again shortly."

    @property
    def reason(self) -> str:
        """The cause in one line, for operators and not for clients."""
        cause = getattr(self.__cause__, "orig", None) or self.__cause__
        return " ".join(str(cause).split()) if cause else self.detail
