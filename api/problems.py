"""Errors as RFC 9457 problems: the registry of kinds, and the one table from error to kind.

Whatever is raised anywhere ends here. What is not in the table is a bug: it becomes
`internal-error`, and the client learns nothing more of it than its request id.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from api.contract import errors as request_errors
from api.contract.errors import MAX_VIOLATIONS, BodyViolation
from api.contract.request import Answer, HeaderList
from api.problem_types import KINDS
from models import errors as domain_errors

MEDIA_TYPE = "application/problem+json"

_KIND_OF: Mapping[type[Exception], str] = {
    request_errors.MalformedRequest: "malformed-request",
    request_errors.InvalidParameters: "invalid-parameters",
    request_errors.Unauthenticated: "not-authenticated",
    request_errors.InvalidToken: "not-authenticated",
    request_errors.InsufficientScope: "not-permitted",
    request_errors.NoSuchResource: "not-found",
    request_errors.MethodNotAllowed: "method-not-allowed",
    request_errors.NotAcceptable: "not-acceptable",
    request_errors.BodyTimeout: "request-timeout",
    request_errors.ContentTooLarge: "content-too-large",
    request_errors.UnsupportedContentEncoding: "unsupported-content-encoding",
    request_errors.InvalidBody: "invalid-body",
    request_errors.RateLimitExceeded: "rate-limited",
    request_errors.Overloaded: "overloaded",
    domain_errors.AccessEnded: "not-authenticated",
    domain_errors.NotFound: "not-found",
    domain_errors.EmailTaken: "email-taken",
    domain_errors.LastAdministrator: "last-administrator",
    domain_errors.VersionMismatch: "version-mismatch",
    domain_errors.WeakPassword: "weak-password",
    domain_errors.InvalidEmail: "invalid-body",
    domain_errors.InvalidName: "invalid-body",
    domain_errors.ProofNeeded: "invalid-body",
    domain_errors.WrongPassword: "wrong-password",
    domain_errors.WrongCredentials: "wrong-credentials",
    domain_errors.InvalidRefreshToken: "invalid-refresh-token",
    domain_errors.InvalidChallenge: "invalid-challenge",
    domain_errors.SecondFactorRequired: "second-factor-required",
    domain_errors.WrongCode: "wrong-code",
    domain_errors.PasswordChangeRequired: "password-change-required",
    domain_errors.InvalidLink: "invalid-link",
    domain_errors.TooManyKeys: "too-many-keys",
    domain_errors.SecondFactorActive: "second-factor-active",
    domain_errors.SecondFactorInactive: "second-factor-inactive",
    domain_errors.NotPermitted: "not-permitted",
    domain_errors.SkuTaken: "sku-taken",
    domain_errors.StockOutOfRange: "stock-out-of-range",
    domain_errors.OutOfStock: "out-of-stock",
    domain_errors.UnknownProduct: "unknown-product",
    domain_errors.MixedCurrencies: "mixed-currencies",
    domain_errors.InvalidLines: "invalid-body",
    domain_errors.InvalidAmount: "invalid-body",
    domain_errors.InvalidQuantity: "invalid-body",
    domain_errors.IllegalTransition: "illegal-transition",
    domain_errors.PaymentExceedsDue: "payment-exceeds-due",
    domain_errors.PaymentRecorded: "payment-recorded",
    domain_errors.RefundExceedsPaid: "refund-exceeds-paid",
    domain_errors.QuantityExceeded: "quantity-exceeded",
    domain_errors.IdempotencyInFlight: "idempotency-in-flight",
    domain_errors.IdempotencyKeyReused: "idempotency-key-reused",
    domain_errors.ImpossibleDivision: "impossible-division",
    domain_errors.DatabaseUnavailable: "database-unavailable",
}

_EVERY_PROBLEM: HeaderList = [
    ("Content-Type", MEDIA_TYPE),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
]

_MEMBER_OF: Mapping[type[Exception], str] = {
    domain_errors.InvalidEmail: "email",
    domain_errors.InvalidName: "name",
    domain_errors.WeakPassword: "password",
}


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem with the URL that identifies it on this service."""

    slug: str
    type: str
    title: str
    status: int
    meaning: str
    when_sent: str
    what_to_do: str


class Problems:
    """The problems of one service, whose `type` URLs start with its public URL."""

    def __init__(self, public_url: str) -> None:
        base = public_url.rstrip("/")
        self.types = {
            kind.slug: ProblemType(type=f"{base}/problems/{kind.slug}", **asdict(kind))
            for kind in KINDS
        }

    def answer(self, error: Exception, request_id: str) -> Answer:
        """Turn any exception into the answer that a client may see."""
        kind = self.types[_kind_of(error)]
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
        """Tell whether nobody meant this error to be raised."""
        return _kind_of(error) == "internal-error"


def list_problems(problems: Problems) -> dict[str, object]:
    """List every kind of problem."""
    return {"items": list(problems.types.values())}


def get_problem(problems: Problems, slug: str) -> ProblemType:
    """Read what one kind of problem means."""
    try:
        return problems.types[slug]
    except KeyError:
        raise domain_errors.NotFound from None


def _kind_of(error: Exception) -> str:
    return _KIND_OF.get(type(error), "internal-error")


def _extensions(error: Exception) -> dict[str, object]:
    """Return the extension members of a problem (RFC 9457, section 3.2)."""
    match error:
        case request_errors.InvalidParameters():
            faults = [
                {"in": fault.location, "parameter": fault.parameter}
                | {"code": fault.code, "message": fault.message}
                for fault in error.violations
            ]
            return {"errors": faults}
        case request_errors.InvalidBody():
            body_faults = {"errors": [_fault(fault) for fault in error.violations]}
            missing = {"missing_fields": error.missing_fields} if error.missing_fields else {}
            return {**body_faults, **missing}
        case request_errors.MethodNotAllowed():
            return {"allow": error.allow.split(", ")}
        case domain_errors.DomainError():
            return {**_member_faults(error), **error.extensions}
    return {}


def _member_faults(error: domain_errors.DomainError) -> dict[str, object]:
    """Say which member of the body a rule of the business found wrong."""
    if isinstance(error, domain_errors.ProofNeeded):
        fault = {"pointer": f"/{error.member}", "code": "required", "message": "is required"}
        return {"errors": [fault], "missing_fields": [error.member]}
    if error.faults:
        return {"errors": [_by_rule(*fault) for fault in error.faults[:MAX_VIOLATIONS]]}
    member = _MEMBER_OF.get(type(error))
    if member is None:
        return {}
    return {"errors": [_by_rule(f"/{member}", error.detail)]}


def _fault(fault: BodyViolation) -> dict[str, str]:
    return {"pointer": fault.pointer, "code": fault.code, "message": fault.message}


def _by_rule(pointer: str, message: str) -> dict[str, str]:
    return _fault(BodyViolation(pointer, "rule", message))


def _headers(error: Exception) -> HeaderList:
    match error:
        case request_errors.MethodNotAllowed():
            return [("Allow", error.allow)]
        case request_errors.Unauthenticated() | request_errors.InsufficientScope():
            return [("WWW-Authenticate", error.challenge)]
        case (
            domain_errors.WrongCredentials()
            | domain_errors.AccessEnded()
            | domain_errors.InvalidRefreshToken()
            | domain_errors.InvalidChallenge()
        ):
            return [("WWW-Authenticate", "Bearer")]
        case request_errors.RateLimitExceeded() | request_errors.Overloaded():
            return [("Retry-After", str(error.retry_after))]
        case domain_errors.DatabaseUnavailable():
            return [("Retry-After", "1")]
    return []
