"""Errors that the engine finds in a request before it calls a handler.

Like the errors of the models, these are nouns; the application's problem registry maps each to a
kind of error. No error repeats a value that the client sent: an error gives the location of the
violation and what the contract requires there.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_REASON_LENGTH = 300
MAX_VIOLATIONS = 50
"""Maximum number of violations in one response; more would not help the client."""


class Violation(NamedTuple):
    """A violation in a body: its JSON Pointer (RFC 6901), the rule's code, and a sentence."""

    pointer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ParameterViolation:
    """A violation in a parameter: its location (`query`, `header`), name, code and sentence."""

    location: str
    parameter: str
    code: str
    message: str


class RequestError(Exception):
    """A request that the engine refuses; `detail` is a sentence for the client."""

    detail = "The request was refused."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail


class MalformedRequest(RequestError):
    """The request is not well-formed HTTP, or repeats a header that may appear only once."""

    detail = "The request is malformed."


class InvalidParameters(RequestError):
    """Query or header parameters do not match the contract."""

    def __init__(self, violations: Sequence[ParameterViolation]) -> None:
        first = violations[0]
        super().__init__(
            f"The {first.location} parameter {first.parameter} {first.message}."
            if first.parameter
            else f"The {first.location} {first.message}."
        )
        self.violations = tuple(violations[:MAX_VIOLATIONS])


class InvalidBody(RequestError):
    """The body is missing, is not strict JSON, or fails its schema."""

    def __init__(self, violations: Sequence[Violation], missing_fields: Sequence[str] = ()) -> None:
        super().__init__(_summary(violations))
        self.violations = tuple(violations[:MAX_VIOLATIONS])
        self.missing_fields = tuple(missing_fields)


class NoSuchResource(RequestError):
    """The path matches no resource of the contract."""

    detail = "There is no such resource."


class MethodNotAllowed(RequestError):
    """The resource does not support the method (RFC 9110, section 15.5.6)."""

    detail = "The resource does not support this method; the Allow header lists those it does."

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class NotAcceptable(RequestError):
    """The resource is not available in any media type that the client accepts."""

    def __init__(self, available: Sequence[str]) -> None:
        super().__init__(f"The resource is available as {', '.join(available)}.")


class Unauthenticated(RequestError):
    """The credentials are missing or invalid (RFC 6750, section 3)."""

    detail = "This operation requires a bearer token."
    challenge = "Bearer"


class InvalidToken(Unauthenticated):
    """The bearer token is invalid; clients are not told why."""

    detail = "The bearer token is invalid, expired or revoked."
    challenge = 'Bearer error="invalid_token"'


class InsufficientScope(RequestError):
    """The token is valid but lacks a required scope (RFC 6750, section 3.1)."""

    def __init__(self, needed: Sequence[str], held: Collection[str]) -> None:
        lacking = ", ".join(scope for scope in needed if scope not in held)
        super().__init__(f"The token lacks a scope that this operation requires: {lacking}.")
        self.challenge = f'Bearer error="insufficient_scope", scope="{" ".join(needed)}"'


class SessionRequired(RequestError):
    """An API key was used for a change that requires a session."""

    detail = "An API key cannot make this change; sign in and use the access token."


class RecentSignInRequired(RequestError):
    """The session started too long ago for this change (RFC 9470, section 3)."""

    def __init__(self, max_age: int) -> None:
        super().__init__(
            f"This change requires a sign-in within the last {max_age} seconds; sign in again."
        )
        self.challenge = f'Bearer error="insufficient_user_authentication", max_age="{max_age}"'


class PreconditionFailed(RequestError):
    """The entity tag of the resource does not match `If-Match` (RFC 9110, section 13.1.1)."""

    detail = "The resource's current version does not meet the request's conditions."


class RangeNotSatisfiable(RequestError):
    """The range starts beyond the end of the file (RFC 9110, section 15.5.17)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has only {size} bytes.")
        self.content_range = f"bytes */{size}"


class ContentTooLarge(RequestError):
    """The body exceeds the operation's size limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes.")


class UnsupportedContentEncoding(RequestError):
    """The body is compressed; only the encoding `identity` is supported."""

    detail = "The body has a Content-Encoding; send it unencoded."


class UnsupportedMediaType(RequestError):
    """The body has a media type that the operation does not accept (RFC 9110, section 15.5.16).

    `patches` are the media types that a PATCH accepts (RFC 5789, section 2.2).
    """

    def __init__(
        self,
        accepted: Sequence[str] = ("application/json in UTF-8",),
        *,
        patches: Sequence[str] = (),
    ) -> None:
        super().__init__(
            f"The body has an unsupported media type; send it as {' or '.join(accepted)}."
        )
        self.patches = patches


class BodyTimeout(RequestError):
    """The body did not arrive in time."""

    detail = "The body did not arrive in time."


class ClientGone(RequestError):
    """The client disconnected while its body was being read, so no response can be sent."""


class RateLimitExceeded(RequestError):
    """The caller or address has exceeded the operation's rate limit."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many requests; try again in {retry_after} seconds.")
        self.retry_after = retry_after


class Overloaded(RequestError):
    """The queue is full, a file cannot be written to disk, or a rate limit cannot be counted."""

    detail = "The service is busy; try again shortly."
    retry_after = 1


class ContractError(Exception):
    """The contract cannot be used; the message is one line with the file, location and reason."""

    def __init__(self, file: str, place: str, reason: str) -> None:
        line = reason.strip().partition("\n")[0]
        if len(line) > _REASON_LENGTH:
            line = f"{line[:_REASON_LENGTH]} ..."
        super().__init__(": ".join(part for part in (file, place, line) if part))


class ContractViolation(Exception):
    """A response or declaration that breaks the contract: a bug, never the client's fault."""


class Mistake(ContractViolation):
    """Something in the document that the engine cannot serve; `place` is its path in the bundle."""

    def __init__(self, place: Sequence[str], reason: str) -> None:
        super().__init__(reason)
        self.place = tuple(place)


def _summary(violations: Sequence[Violation]) -> str:
    first = violations[0]
    subject = f"member {first.pointer[1:]}" if first.pointer else "body"
    more = "" if len(violations) == 1 else " See errors for more."
    return f"The {subject} {first.message}.{more}"
