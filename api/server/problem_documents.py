"""Problem responses (RFC 9457), and the single table that maps exceptions to kinds of error.

Every error ends up here. An error that is not in the table is a bug: it becomes `internal-error`,
and the client learns only the request id.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from api.contract import engine_errors
from api.contract.compile.problem_kinds import ProblemKind
from api.contract.engine_errors import MAX_VIOLATIONS, Violation
from api.contract.serve.request import Answer, HeaderList
from api.providers.signatures import InvalidSignature
from models import errors

MEDIA_TYPE = "application/problem+json"

_KIND_OF: Mapping[type[Exception], str] = {
    engine_errors.MalformedRequest: "malformed-request",
    engine_errors.InvalidParameters: "invalid-parameters",
    engine_errors.Unauthenticated: "not-authenticated",
    engine_errors.InvalidToken: "not-authenticated",
    engine_errors.InsufficientScope: "not-permitted",
    engine_errors.SessionRequired: "session-required",
    engine_errors.RecentSignInRequired: "recent-sign-in-required",
    engine_errors.NoSuchResource: "not-found",
    engine_errors.MethodNotAllowed: "method-not-allowed",
    engine_errors.NotAcceptable: "not-acceptable",
    engine_errors.PreconditionFailed: "version-mismatch",
    engine_errors.RangeNotSatisfiable: "range-not-satisfiable",
    engine_errors.BodyTimeout: "request-timeout",
    engine_errors.ContentTooLarge: "content-too-large",
    engine_errors.UnsupportedContentEncoding: "unsupported-content-encoding",
    engine_errors.UnsupportedMediaType: "unsupported-media-type",
    engine_errors.InvalidBody: "invalid-body",
    engine_errors.RateLimitExceeded: "rate-limited",
    engine_errors.Overloaded: "overloaded",
    errors.AccessEnded: "not-authenticated",
    errors.NotFound: "not-found",
    errors.EventsExpired: "events-expired",
    errors.EmailTaken: "email-taken",
    errors.LastAdministrator: "last-administrator",
    errors.VersionMismatch: "version-mismatch",
    errors.WeakPassword: "weak-password",
    errors.InvalidEmail: "invalid-body",
    errors.InvalidName: "invalid-body",
    errors.ProofNeeded: "invalid-body",
    errors.WrongPassword: "wrong-password",
    errors.WrongCredentials: "wrong-credentials",
    errors.InvalidRefreshToken: "invalid-refresh-token",
    errors.InvalidChallenge: "invalid-challenge",
    errors.SecondFactorRequired: "second-factor-required",
    errors.WrongCode: "wrong-code",
    errors.PasswordChangeRequired: "password-change-required",
    errors.InvalidLink: "invalid-link",
    errors.TooManyKeys: "too-many-keys",
    errors.TooManyWebhooks: "too-many-webhooks",
    errors.InvalidWebhookUrl: "invalid-body",
    errors.EmailUnverified: "email-unverified",
    errors.OrdersOpen: "orders-open",
    errors.OwnerErased: "owner-erased",
    errors.SecondFactorActive: "second-factor-active",
    errors.SecondFactorInactive: "second-factor-inactive",
    errors.NotPermitted: "not-permitted",
    errors.SkuTaken: "sku-taken",
    errors.StockOutOfRange: "stock-out-of-range",
    errors.OutOfStock: "out-of-stock",
    errors.PriceChanged: "price-changed",
    errors.UnknownProduct: "unknown-product",
    errors.UnknownUser: "unknown-user",
    errors.MixedCurrencies: "mixed-currencies",
    errors.InvalidLines: "invalid-body",
    errors.InvalidAmount: "invalid-body",
    errors.InvalidQuantity: "invalid-body",
    errors.IllegalTransition: "illegal-transition",
    errors.BounceExceedsPayment: "bounce-exceeds-payment",
    errors.UnknownPayment: "unknown-payment",
    errors.PaymentRecorded: "payment-recorded",
    errors.PaymentNotRecorded: "payment-not-recorded",
    InvalidSignature: "invalid-signature",
    errors.InvalidPaymentEvent: "invalid-body",
    errors.RefundExceedsPaid: "refund-exceeds-paid",
    errors.QuantityExceeded: "quantity-exceeded",
    errors.OrderEmpty: "order-empty",
    errors.IdempotencyInFlight: "idempotency-in-flight",
    errors.IdempotencyKeyReused: "idempotency-key-reused",
    errors.ImpossibleDivision: "impossible-division",
    errors.InvalidPicture: "invalid-picture",
    errors.StorageUnavailable: "storage-unavailable",
    errors.DatabaseUnavailable: "database-unavailable",
}

_EVERY_PROBLEM: HeaderList = [
    ("Content-Type", MEDIA_TYPE),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
]

_MEMBER_OF: Mapping[type[Exception], str] = {
    errors.InvalidEmail: "email",
    errors.InvalidName: "name",
    errors.WeakPassword: "password",
}


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of error with the URL that identifies it on this service."""

    slug: str
    type: str
    title: str
    status: int
    meaning: str
    when_sent: str
    what_to_do: str


class Problems:
    """The problem registry of a service, whose `type` URLs start with its public URL."""

    def __init__(self, public_url: str, kinds: Mapping[str, ProblemKind]) -> None:
        base = public_url.rstrip("/")
        self.types = {
            slug: ProblemType(type=f"{base}/problems/{slug}", **asdict(kind))
            for slug, kind in kinds.items()
        }

    def answer(self, error: Exception, request_id: str) -> Answer:
        """Return the problem response for an exception."""
        kind = self.types[self.kind_of(error)]
        members: dict[str, object] = {
            "type": kind.type,
            "code": kind.slug,
            "title": kind.title,
            "status": kind.status,
            "detail": getattr(error, "detail", kind.meaning)
            if type(error) in _KIND_OF
            else kind.meaning,
            "instance": request_id,
            **_extensions(error),
        }
        headers = [*_EVERY_PROBLEM, *_headers(error)]
        return Answer(kind.status, headers, orjson.dumps(members))

    def is_bug(self, error: Exception) -> bool:
        """Return whether an error is a bug."""
        return self.kind_of(error) == "internal-error"

    @staticmethod
    def kind_of(error: Exception) -> str:
        """Return the slug of an error's kind."""
        return _KIND_OF.get(type(error), "internal-error")


def _extensions(error: Exception) -> dict[str, object]:
    """Return the extension members of a problem (RFC 9457, section 3.2)."""
    match error:
        case engine_errors.InvalidParameters():
            found = [
                {"in": each.location, "parameter": each.parameter}
                | {"code": each.code, "message": each.message}
                for each in error.violations
            ]
            return {"errors": found}
        case engine_errors.InvalidBody():
            missing = {"missing_fields": error.missing_fields} if error.missing_fields else {}
            return {"errors": [_shown(each) for each in error.violations], **missing}
        case engine_errors.MethodNotAllowed():
            return {"allow": error.allow.split(", ")}
        case errors.DomainError():
            return {**_violated_rules(error), **error.extensions}
    return {}


def _shown(violation: Violation) -> dict[str, str]:
    # `asdict`, which copies every value, takes 5 µs.
    return {
        "pointer": violation.pointer,
        "code": violation.code,
        "message": violation.message,
    }


def _violated_rules(error: errors.DomainError) -> dict[str, object]:
    """Return the violations of business rules in members of the body."""
    if isinstance(error, errors.ProofNeeded):
        missing = Violation(f"/{error.member}", "required", "is required")
        return {"errors": [_shown(missing)], "missing_fields": [error.member]}
    violations = error.violations
    if member := _MEMBER_OF.get(type(error)):
        violations = {f"/{member}": error.detail}
    found = [Violation(pointer, "rule", reason) for pointer, reason in violations.items()]
    return {"errors": [_shown(each) for each in found[:MAX_VIOLATIONS]]} if found else {}


def _headers(error: Exception) -> HeaderList:
    match error:
        case engine_errors.MethodNotAllowed():
            field = ("Allow", error.allow)
        case (
            engine_errors.Unauthenticated()
            | engine_errors.InsufficientScope()
            | engine_errors.RecentSignInRequired()
        ):
            field = ("WWW-Authenticate", error.challenge)
        case (
            errors.WrongCredentials()
            | errors.AccessEnded()
            | errors.InvalidRefreshToken()
            | errors.InvalidChallenge()
        ):
            field = ("WWW-Authenticate", "Bearer")
        case engine_errors.UnsupportedContentEncoding():
            field = ("Accept-Encoding", "identity")
        case engine_errors.UnsupportedMediaType() if error.patches:
            field = ("Accept-Patch", ", ".join(error.patches))
        case engine_errors.RangeNotSatisfiable():
            field = ("Content-Range", error.content_range)
        case (
            engine_errors.RateLimitExceeded()
            | engine_errors.Overloaded()
            | errors.DatabaseUnavailable()
            | errors.StorageUnavailable()
            | errors.IdempotencyInFlight()
        ):
            field = ("Retry-After", str(getattr(error, "retry_after", 1)))
        case _:
            return []
    return [field]
