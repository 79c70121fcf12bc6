"""Bearer credentials (RFC 6750): the `Authorization` header of a request becomes its caller.

A credential is an access token, which belongs to a session, or an API key. The database is queried
at most twice a second for whether a session or an API key is still active.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from api.contract.engine_errors import InvalidToken, Unauthenticated
from api.contract.serve.rate_limits import RateLimiter, network_of
from api.contract.serve.request import Request
from api.credentials.access_tokens import Claims, Tokens
from models.access.token_status import TokenStatus, TokenStatuses
from models.identity.api_key import PREFIX as API_KEY_PREFIX
from models.identity.api_key import hash_api_key
from models.identity.audit_event import RequestOrigin
from models.identity.permission import ADMIN_SCOPE
from models.storage.reader import ConnectionReader

K = TypeVar("K")
V = TypeVar("V")

_MAX_USER_AGENT = 200
_CACHE_SIZE = 10_000
_STATUS_LIFETIME = 0.5
"""Seconds for which a token's status is cached. Revocation takes effect within a second."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated account, its token, and the token's scopes."""

    user_id: int
    role: str
    scopes: frozenset[str]
    token_version: int
    token_id: UUID
    signed_in_at: datetime | None
    """Start of the session; None for an API key."""

    @property
    def id(self) -> int:
        """The account's id."""
        return self.user_id

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an administrator and the token includes the scope `admin`."""
        return self.role == "admin" and ADMIN_SCOPE in self.scopes


class LoadStatus(Protocol):
    """Reads the current status of a session id or key hash from the database."""

    async def __call__(self, credential: UUID | bytes) -> TokenStatus | None:
        """Return the status; None if the credential is invalid."""


class RecentUses:
    """Times of last use by token, until they are written to the database. Thread-safe."""

    def __init__(self) -> None:
        self._uses: dict[UUID, datetime] = {}

    def note(self, token_id: UUID) -> None:
        """Record that a token is in use now."""
        self._uses[token_id] = datetime.now(UTC)

    def take(self, most: int) -> Mapping[UUID, datetime]:
        """Remove and return up to `most` of the recorded times."""
        return dict(self._uses.popitem() for _ in range(min(most, len(self._uses))))


class Authenticator:
    """Authenticates callers. It belongs to the event loop and is not thread-safe."""

    def __init__(self, tokens: Tokens, load_status: LoadStatus, uses: RecentUses) -> None:
        self._tokens = tokens
        self._load_status = load_status
        self._uses = uses
        self._claims: dict[str, Claims] = {}
        self._statuses: dict[UUID | bytes, tuple[float, TokenStatus | None]] = {}

    def read(self, authorization: str | None) -> Claims | bytes:
        """Read an `Authorization` header (RFC 6750, section 2.1) without querying the database.

        Return the claims of a token signed by this service, or the hash of a well-formed API key.

        Raises:
            Unauthenticated: there is no bearer token.
            InvalidToken: the token is forged or expired, or the key is malformed.
        """
        if not authorization:
            raise Unauthenticated
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated
        token = token.lstrip(" ")
        if not token.startswith(API_KEY_PREFIX):
            return self._verified(token)
        digest = hash_api_key(token)
        if digest is None:
            raise InvalidToken
        return digest

    def recognises(self, credential: Claims | bytes) -> bool:
        """Return whether a credential is not a guess: it was signed here, or was valid recently."""
        if isinstance(credential, Claims):
            return True
        known = self._statuses.get(credential)
        return known is not None and known[1] is not None

    async def authenticate(self, credential: Claims | bytes) -> Caller:
        """Return the caller for a credential.

        Raises:
            InvalidToken: the credential is unknown, or its session or API key is no longer active.
        """
        claims = credential if isinstance(credential, Claims) else None
        # The key by which a session or API key is looked up.
        name = credential.session_id if isinstance(credential, Claims) else credential
        status = await self._status_of(name)
        if status is None or (claims and status.user_id != claims.user_id):
            raise InvalidToken
        scopes = frozenset(status.scopes)
        if claims:
            # The token may have been signed before the session lost scopes.
            scopes &= claims.scopes
        self._uses.note(status.token_id)
        return caller_of(status, scopes)

    def _verified(self, token: str) -> Claims:
        claims = self._claims.get(token)
        if claims is None:
            claims = self._tokens.verify(token)
            _remember(self._claims, token, claims)
        elif not self._tokens.believes(claims):
            del self._claims[token]
            raise InvalidToken
        return claims

    async def _status_of(self, credential: UUID | bytes) -> TokenStatus | None:
        known = self._statuses.get(credential)
        now = time.monotonic()
        if known is not None and now - known[0] < _STATUS_LIFETIME:
            return known[1]
        status = await self._load_status(credential)
        # The age counts from before the query, because the result may be as old as that.
        self._statuses.pop(credential, None)
        _remember(self._statuses, credential, (now, status))
        return status


def caller_of(status: TokenStatus, scopes: frozenset[str]) -> Caller:
    """Return the caller for a token's status and scopes."""
    return Caller(
        status.user_id,
        status.role,
        scopes,
        status.token_version,
        status.token_id,
        status.signed_in_at,
    )


async def authenticate(
    authenticator: Authenticator, limiter: RateLimiter, request: Request, authorization: str | None
) -> Caller:
    """Authenticate a request; clients that guess are refused before the database is queried."""
    try:
        credential = authenticator.read(authorization)
        if not authenticator.recognises(credential):
            await limiter.require_few_failures(request)
        return await authenticator.authenticate(credential)
    except InvalidToken:
        await limiter.count_failure(request)
        raise


def origin_of(request: Request) -> RequestOrigin:
    """Return the origin of a request, for audit events."""
    sent = request.fields.get("user-agent", "")
    with suppress(UnicodeError):
        # Most clients that send other characters than ASCII send UTF-8.
        sent = sent.encode("latin-1").decode()
    agent = "".join(filter(str.isprintable, sent))
    caller = request.caller if isinstance(request.caller, Caller) else None
    return RequestOrigin(
        address=request.client_address or None,
        request_id=request.id,
        user_agent=agent[:_MAX_USER_AGENT] or None,
        actor_id=caller.user_id if caller else None,
        token_id=caller.token_id if caller else None,
        network=network_of(request.client_address) or None,
    )


def recheck(
    statuses: TokenStatuses, session: Session, caller: Caller, *, hold: bool
) -> Callable[[], Caller]:
    """Look up the caller's current state, in the transaction of a write.

    With `hold`, the account is locked until the transaction ends. Return a function that waits for
    the state, and returns it. The function raises InvalidToken if the caller's token has been
    revoked in the meantime.
    """
    reader = ConnectionReader(session.connection())
    look_up = statuses.look_up(reader, caller.token_id, hold=hold)

    def wait() -> Caller:
        status = look_up()
        if status is None:
            raise InvalidToken
        return caller_of(status, caller.scopes.intersection(status.scopes))

    return wait


def _remember(cache: dict[K, V], key: K, value: V) -> None:
    """Add an entry, and drop the oldest one if the cache is full."""
    if len(cache) >= _CACHE_SIZE:
        del cache[next(iter(cache))]
    cache[key] = value
