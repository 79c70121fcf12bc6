"""What the engine finds wrong with a request, before a handler is asked.

Like the errors of the models these are nouns; `api.problems` maps each to its problem type. No
error ever carries a value, or a member name, that the client sent: what is reported is where the
fault is and what the contract wants there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_VIOLATIONS = 50
"""How many violations one answer lists; the rest of a very wrong body adds nothing."""


@dataclass(frozen=True, slots=True)
class BodyViolation:
    """One fault in a body: a JSON Pointer (RFC 6901), a stable code and a sentence."""

    pointer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ParameterViolation:
    """One fault in a parameter: its place (`query`, `header`), its declared name, and why."""

    location: str
    parameter: str
    code: str
    message: str


class RequestError(Exception):
    """A request that the engine refuses; `detail` is written for the person who sent it."""

    detail = "The request was refused."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail


class MalformedRequest(RequestError):
    """The request is not well-formed HTTP, or a header that may appear once appears twice."""

    detail = "The request is malformed."


class InvalidParameters(RequestError):
    """Query or header parameters do not fit the contract."""

    def __init__(self, violations: Sequence[ParameterViolation]) -> None:
        first = violations[0]
        super().__init__(
            f"The {first.location} parameter {first.parameter} {first.message}."
            if first.parameter
            else f"The {first.location} {first.message}."
        )
        self.violations = tuple(violations[:MAX_VIOLATIONS])


class InvalidBody(RequestError):
    """The body is absent, of another media type, not strict JSON, or fails its schema."""

    def __init__(
        self, violations: Sequence[BodyViolation], missing_fields: Sequence[str] = ()
    ) -> None:
        super().__init__(_summary(violations))
        self.violations = tuple(violations[:MAX_VIOLATIONS])
        self.missing_fields = tuple(missing_fields)


class NoSuchResource(RequestError):
    """No resource of the contract can have this path."""

    detail = "There is no such resource."


class MethodNotAllowed(RequestError):
    """The resource exists and does not have this method (RFC 9110, section 15.5.6)."""

    detail = "The resource does not have this method; the Allow header lists those it has."

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class NotAcceptable(RequestError):
    """The resource has no representation of a media type that the client accepts."""

    def __init__(self, available: Sequence[str]) -> None:
        super().__init__(f"The resource is available as {', '.join(available)}.")


class Unauthenticated(RequestError):
    """No credentials, or credentials that do not hold (RFC 6750, section 3)."""

    detail = "This operation needs a bearer token."
    challenge = "Bearer"


class InvalidToken(Unauthenticated):
    """A bearer token was sent and does not hold; one answer for every reason."""

    detail = "The bearer token is not valid, has expired or was withdrawn."
    challenge = 'Bearer error="invalid_token"'


class InsufficientScope(RequestError):
    """The token holds, and lacks a scope that the operation needs (RFC 6750, section 3.1)."""

    def __init__(self, scopes: Sequence[str]) -> None:
        wanted = " ".join(scopes)
        super().__init__(f"This operation needs a token with the scope {wanted}.")
        self.challenge = f'Bearer error="insufficient_scope", scope="{wanted}"'


class ContentTooLarge(RequestError):
    """The body is larger than the service takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes.")


class UnsupportedContentEncoding(RequestError):
    """The body is compressed; only `identity` is taken."""

    detail = "The body has a Content-Encoding; send it unencoded."


class BodyTimeout(RequestError):
    """The body did not arrive in time."""

    detail = "The body did not arrive in time."


class ClientGone(RequestError):
    """The client went away while its body was read; there is nobody to answer."""


class RateLimitExceeded(RequestError):
    """The caller or the address has used up what the operation allows."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many requests; try again in {retry_after} seconds.")
        self.retry_after = retry_after


class Overloaded(RequestError):
    """All threads are busy and the queue is full, or a limit cannot be counted."""

    detail = "The service is busy; try again shortly."
    retry_after = 1


class ContractViolation(Exception):
    """An answer of ours that the contract does not declare: a bug, never the client's fault."""


def _summary(violations: Sequence[BodyViolation]) -> str:
    first = violations[0]
    subject = f"member {first.pointer[1:]}" if first.pointer else "body"
    more = "" if len(violations) == 1 else " There is more: see errors."
    return f"The {subject} {first.message}.{more}"
