"""Admission to an operation: security, required sessions and rate limits."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from api.contract.compile.schemas import SchemaNode, resolve
from api.contract.engine_errors import RecentSignInRequired, SessionRequired
from api.contract.strict_json import JSON


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit of `limit` requests per `window` seconds, by address, caller or body member.

    - `member`: the body member to count by, if any.
    - `given`: a body member without which a request is not counted.
    - `shared`: all operations with a limit of this name use one counter.
    - `known_apart`: addresses known for the member's owner are counted separately.
    - `gives_back`: the request is not counted if its response has one of these statuses.
    - `trickle`: beyond the limit, one request is let through in this many seconds.
    - `fail_closed`: if the counters are unreachable, requests get 503; otherwise they pass
      uncounted.
    """

    name: str
    limit: int
    window: int
    per: str
    member: str | None
    given: str | None
    shared: bool
    known_apart: bool
    gives_back: frozenset[int]
    trickle: int | None
    fail_closed: bool

    @property
    def needs_body(self) -> bool:
        """Whether a request can be counted only after its body has been read."""
        return self.member is not None or self.given is not None


@dataclass(frozen=True, slots=True)
class Security:
    """The security scheme of an operation, the header with the credentials, and required scopes."""

    scheme: str
    header: str
    field: str
    """The header's name in lower case, as in a request's fields."""
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequiredSession:
    """A required session, started by a sign-in at most `max_age` seconds ago.

    With `members`, the session is required only for bodies that contain one of them.
    """

    members: frozenset[str]
    max_age: int | None

    def check(self, signed_in_at: datetime | None, body: JSON) -> None:
        """Check the caller's session; `signed_in_at` is None for an API key.

        Raises:
            SessionRequired: the caller uses an API key.
            RecentSignInRequired: the session started too long ago.
        """
        if self.members and (not isinstance(body, dict) or self.members.isdisjoint(body)):
            return
        if signed_in_at is None:
            raise SessionRequired
        if self.max_age is not None:
            age = datetime.now(UTC) - signed_in_at
            if age > timedelta(seconds=self.max_age):
                raise RecentSignInRequired(self.max_age)


@dataclass(frozen=True, slots=True)
class RequiredScopes:
    """Scopes that a body requires if it has one of the `members`, besides the operation's own."""

    members: frozenset[str]
    scopes: tuple[str, ...]

    def of(self, body: JSON) -> tuple[str, ...]:
        """Return the scopes that a body requires."""
        is_given = isinstance(body, dict) and not self.members.isdisjoint(body)
        return self.scopes if is_given else ()


def compile_security(bundle: SchemaNode, requirements: Iterable[SchemaNode]) -> Security | None:
    """Return the one required scheme, or None; an empty requirement (`{}`) beside it is skipped."""
    for requirement in requirements:
        for name, scopes in requirement.items():
            scheme = resolve(bundle, bundle["components"]["securitySchemes"][name])
            header = scheme["name"] if scheme["type"] == "apiKey" else "Authorization"
            return Security(name, header, header.lower(), tuple(scopes))
    return None


def compile_required_sessions(declared: Iterable[SchemaNode]) -> tuple[RequiredSession, ...]:
    """Compile the list `x-requires-session` of an operation."""
    return tuple(
        RequiredSession(
            _members(each.get("when-given", ())),
            each.get("max-age"),
        )
        for each in declared
    )


def compile_required_scopes(declared: Iterable[SchemaNode]) -> tuple[RequiredScopes, ...]:
    """Compile the list `x-requires-scopes` of an operation."""
    return tuple(
        RequiredScopes(_members(each["when-given"]), tuple(each["scopes"])) for each in declared
    )


def _members(pointers: Iterable[str]) -> frozenset[str]:
    return frozenset(pointer.removeprefix("#/") for pointer in pointers)


def compile_rate_limit(declared: SchemaNode) -> RateLimit:
    """Compile one item of `x-rate-limit`."""
    per, given = str(declared["per"]), declared.get("when-given")
    return RateLimit(
        name=declared["name"],
        limit=declared["limit"],
        window=declared["window"],
        per=per,
        member=per.removeprefix("#/") if per.startswith("#/") else None,
        given=given and str(given).removeprefix("#/"),
        shared=declared.get("shared", False),
        known_apart=declared.get("known-apart", False),
        gives_back=frozenset(declared.get("gives-back", ())),
        trickle=declared.get("trickle"),
        fail_closed=declared.get("when-unavailable", "open") == "closed",
    )


def compile_credential_limit(bundle: SchemaNode, scheme: str) -> RateLimit:
    """Compile the limit on requests with invalid credentials of a security scheme."""
    [declared] = bundle["components"]["securitySchemes"][scheme]["x-rate-limit"]
    return compile_rate_limit(declared)
