"""What the business refuses, one noun an error. Status codes are none of its business."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple, TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


class Fault(NamedTuple):
    """Which part of what was sent breaks a rule, as a JSON Pointer (RFC 6901), and why."""

    pointer: str
    message: str


class DomainError(Exception):
    """A request that the business refuses.

    `detail` is a sentence for the person who sent the request. `extensions` are further members
    for their program, and `faults` are the places in what was sent that are to blame. All of it is
    public and never repeats a text that was sent.
    """

    detail: str = "The request was refused."
    keeps_changes: ClassVar[bool] = False
    """Whether what was changed before the refusal stays, such as a count of failures."""
    proves_identity: ClassVar[bool] = False
    """Whether whoever was refused has shown the right password all the same."""

    def __init__(
        self, detail: str | None = None, *, faults: Sequence[Fault] = (), **extensions: JSON
    ) -> None:
        if detail is not None:
            self.detail = detail
        self.faults = tuple(faults)
        self.extensions: Mapping[str, JSON] = MappingProxyType(extensions)
        super().__init__(self.detail)


class NotFound(DomainError):
    """The thing does not exist, or is none of the caller's business: the two look the same."""

    detail = "There is no such resource."


class AccessEnded(DomainError):
    """Whoever asks was let in, and has been shut out since: erased, demoted or signed out."""

    detail = "The bearer token is not valid, has expired or was withdrawn."


class EmailTaken(DomainError):
    """Another account has this email address, or one that cannot be told apart from it."""

    detail = "An account with this email address exists."


class InvalidEmail(DomainError):
    """The text is not an email address that mail could be sent to."""

    detail = "This is not a valid email address."


class InvalidName(DomainError):
    """The text cannot be shown as the name of a person."""

    detail = "This is not a valid name."


class WeakPassword(DomainError):
    """The password would be guessed. `detail` says why."""

    detail = "This password is easy to guess."


class ProofNeeded(DomainError):
    """A change that only the owner may make came without a proof of being the owner."""

    def __init__(self, member: str, detail: str) -> None:
        super().__init__(detail)
        self.member = member


class WrongPassword(DomainError):
    """The current password, asked for again before a sensitive change, is not this one."""

    detail = "The current password is wrong."
    keeps_changes = True


class WrongCredentials(DomainError):
    """Unknown email, wrong password or disabled account: which of them is not told."""

    detail = "The email address or the password is wrong."


class InvalidRefreshToken(DomainError):
    """The refresh token is none, was used before, or its session has ended: which is not told."""

    detail = "The refresh token is not valid, was used before, or its session has ended."
    keeps_changes = True


class InvalidChallenge(DomainError):
    """The challenge of a sign-in is none, was completed, or has expired: which is not told."""

    detail = "The challenge is not valid or has expired; sign in again."


class SecondFactorRequired(DomainError):
    """The password is right, and a code is wanted as well."""

    detail = "A code of the second factor is required; send it with the challenge."
    proves_identity = True


class WrongCode(DomainError):
    """The code is none, was used before, or too many were tried: which of them is not told."""

    detail = "The code is wrong, was used before, or too many wrong ones were tried."
    keeps_changes = True


class SecondFactorActive(DomainError):
    """The account has a second factor; another one takes its place only after it is disabled."""

    detail = "The second factor is active already; disable it to enrol another authenticator."


class SecondFactorInactive(DomainError):
    """The account has no second factor, or none that was begun."""

    detail = "There is no second factor to do this with; enrol an authenticator first."


class PasswordChangeRequired(DomainError):
    """The password is right, and an administrator has asked for a new one."""

    detail = "A new password has to be set first; ask for a link with a password reset."
    proves_identity = True


class TooManyKeys(DomainError):
    """The account has as many API keys as it can have."""

    detail = "The account has as many API keys as it can have; delete some first."


class InvalidLink(DomainError):
    """The secret of a link is none, was used, or has expired: which of them is not told."""

    detail = "This link is not valid, was used before, or has expired; ask for a new one."


class NotPermitted(DomainError):
    """The caller is known but may not do this."""

    detail = "You are not permitted to do this."


class LastAdministrator(DomainError):
    """The change would leave the service without an active administrator."""

    detail = "The last active administrator cannot be demoted, disabled or deleted."


class VersionMismatch(DomainError):
    """The row has changed since the caller last read it."""

    detail = "The resource has changed since you read it."


class IllegalTransition(DomainError):
    """The state that something is in does not allow the action."""

    def __init__(self, state: str, action: str, allowed_actions: Sequence[str]) -> None:
        allowed = ", ".join(allowed_actions) or "none"
        super().__init__(
            f"In the state {state} the action {action} is not allowed; allowed are: {allowed}.",
            state=state,
            allowed_actions=tuple(allowed_actions),
        )


class IdempotencyInFlight(DomainError):
    """The first request with this idempotency key is still running."""

    detail = "The first request with this Idempotency-Key is still running; try again shortly."


class IdempotencyKeyReused(DomainError):
    """The idempotency key was used for another request, whose answer is kept under it."""

    detail = "This Idempotency-Key was used for another request; use a new key for this one."


class SkuTaken(DomainError):
    """Another product has this SKU; upper and lower case make no difference."""

    detail = "A product with this SKU exists."


class StockOutOfRange(DomainError):
    """A change of stock would leave less than is reserved, or more than can be counted."""

    detail = "The stock would be less than what is reserved, or larger than stock can be."


class OutOfStock(DomainError):
    """There is not enough of some product; nothing at all was reserved."""

    detail = "There is not enough in stock for this order; shortages says of what."


class UnknownProduct(DomainError):
    """A line names a product that does not exist, is not for sale, or is not in the order."""

    detail = "A line names a product that cannot be chosen here."


class MixedCurrencies(DomainError):
    """The products of an order have prices in several currencies."""

    detail = "All lines of an order must be priced in one currency."


class InvalidLines(DomainError):
    """The lines contradict each other."""

    detail = "A product may stand in one line only."


class InvalidQuantity(DomainError):
    """A number of units that changes nothing."""

    detail = "This quantity is not valid here."


class InvalidAmount(DomainError):
    """An amount of money that cannot be meant: none, too much, or of another currency."""

    detail = "This amount of money is not valid here."


class PaymentExceedsDue(DomainError):
    """More is paid than the order still costs."""

    detail = "The payment is larger than what is due."


class PaymentRecorded(DomainError):
    """The order has this payment already."""

    detail = "A payment with this method and reference is recorded for the order."


class RefundExceedsPaid(DomainError):
    """More is refunded than was paid and not refunded yet."""

    detail = "The refund is larger than what can be refunded."


class QuantityExceeded(DomainError):
    """More units are asked for than the order has left."""

    detail = "More units are named than the order has left."


class ImpossibleDivision(DomainError):
    """The operands are numbers, but have no quotient."""

    detail = "Division by zero has no result."


class DatabaseUnavailable(DomainError):
    """The database is away, full, or too busy to answer in time. Nothing is known to be changed."""

    detail = "The database cannot be reached at the moment. Try again shortly."
