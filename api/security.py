"""From a bearer token to the caller: signed tokens, what they allow, and whether they still hold.

Access tokens are JWTs of the profile in RFC 9068, signed with Ed25519 (RFC 8037) and verified as
RFC 8725 asks: one algorithm, one type, every claim required. A token belongs to a session; whether
that, or an API key, still holds is asked of the database at most twice a second.
"""

import base64
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar
from uuid import UUID

import jwt
from sqlalchemy.orm import Session

from api.contract.errors import InvalidToken, Unauthenticated
from api.signing import KeyRing
from models.api_key import PREFIX as API_KEY_PREFIX
from models.api_key import hash_api_key
from models.permission import ADMIN_SCOPE
from models.session import Grant
from models.token import Standing, Token

K = TypeVar("K")
V = TypeVar("V")

TOKEN_LIFETIME: Final = 3600
"""Seconds that an access token is good for."""

_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_HEADER = frozenset({"alg", "typ", "kid"})
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]{86})")
_USER_ID = re.compile(r"[1-9][0-9]{0,17}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLAIMS = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "sid"]
_MAX_TOKEN = 2048
_CLOCK_SKEW = 30
"""Seconds that the clock of the replica that signed may be ahead of this one's."""
_CACHE_SIZE = 10_000
_STANDING_LIFETIME = 0.5
"""Seconds that what is known of a token may be old: changes bind within the second."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, with which token, and what that lets them do."""

    user_id: int
    role: str
    scopes: frozenset[str]
    token_version: int
    token_id: UUID

    @property
    def is_admin(self) -> bool:
        """Whether they run the service, and their token lets them act so."""
        return self.role == "admin" and ADMIN_SCOPE in self.scopes


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a successful sign-in answers (RFC 6749, section 5.1)."""

    access_token: str
    expires_in: int
    scope: str
    refresh_token: str
    session_id: UUID
    token_type: str = "bearer"  # noqa: S105 - the type's name, not a secret.


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    user_id: int
    session_id: UUID
    scopes: frozenset[str]
    expires_at: int
    key_id: str


class Tokens:
    """Signs and verifies access tokens."""

    def __init__(self, keys: KeyRing, issuer: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = f"{issuer}/v1"

    def issue(self, grant: Grant) -> AccessToken:
        """Sign a token for a session, which it does not outlive."""
        session, key = grant.session, self._keys.signing
        now = int(time.time())
        lifetime = max(1, min(TOKEN_LIFETIME, int(session.expires_at.timestamp()) - now))
        scope = " ".join(session.scopes)
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(session.user_id),
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "jti": uuid.uuid4().hex,
            "scope": scope,
            "sid": str(session.id),
        }
        token = jwt.encode(claims, key.private, _ALGORITHM, headers={"typ": _TYPE, "kid": key.id})
        return AccessToken(token, lifetime, scope, grant.refresh_token, session.id)

    def believes(self, claims: Claims) -> bool:
        """Tell whether what was verified before still is to be believed."""
        return claims.expires_at > time.time() and self._keys.find(claims.key_id) is not None

    def verify(self, token: str) -> Claims:
        """Check a token's form, signature and claims.

        Raises:
            InvalidToken: for every reason alike.
        """
        try:
            form = _FORM.fullmatch(token) if len(token) <= _MAX_TOKEN else None
            # A signature has one spelling: one with unused bits set would be the same token again.
            if form is None or _spelling(form[1]) != form[1]:
                raise InvalidToken
            header = jwt.get_unverified_header(token)
            # A header with jku, jwk, x5u or crit asks for keys or rules of the sender's choice.
            if set(header) != _HEADER or header["typ"] != _TYPE:
                raise InvalidToken
            key = self._keys.find(header["kid"])
            if key is None:
                raise InvalidToken
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_CLOCK_SKEW,
                options={"require": _CLAIMS},
            )
            return _claims(claims, header["kid"], now=time.time())
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
            raise InvalidToken from None


def _claims(claims: Mapping[str, object], key_id: str, *, now: float) -> Claims:
    """Read the claims strictly: what is not of its type is not ours, whoever signed it.

    The leeway of the clocks is for the beginning of a token's life; its end is the end.
    """
    subject, scope, session_id = claims["sub"], claims["scope"], claims["sid"]
    expires_at, issued_at = claims["exp"], claims["iat"]
    if not (
        isinstance(subject, str)
        and _USER_ID.fullmatch(subject)
        and isinstance(scope, str)
        and isinstance(claims["jti"], str)
        and claims["jti"]
        and isinstance(session_id, str)
        and _UUID.fullmatch(session_id)
        and type(expires_at) is type(issued_at) is type(claims["nbf"]) is int
        and expires_at > now
    ):
        raise InvalidToken
    scopes = frozenset(scope.split(" "))
    return Claims(int(subject), UUID(session_id), scopes, expires_at, key_id)


def _spelling(signature: str) -> str:
    """Return how a base64url text (RFC 7515, section 2) is spelled by everybody who encodes it."""
    decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode()


class LoadStanding(Protocol):
    """Asks the database, in a thread, what a session's id or a key's hash stands for now."""

    async def __call__(self, credential: UUID | bytes) -> Standing | None:
        """Return it; None when it does not hold."""


class RecentUses:
    """When tokens were last used, until it is written down. It is shared by threads."""

    def __init__(self) -> None:
        self._uses: dict[UUID, datetime] = {}

    def note(self, token_id: UUID) -> None:
        """Remember that a token is used now."""
        self._uses[token_id] = datetime.now(UTC)

    def take(self) -> Mapping[UUID, datetime]:
        """Give what is remembered, and begin anew."""
        uses, self._uses = self._uses, {}
        return uses


class Authenticator:
    """Finds the caller of a request. It lives on the event loop and is not shared by threads."""

    def __init__(self, tokens: Tokens, load_standing: LoadStanding, uses: RecentUses) -> None:
        self._tokens = tokens
        self._load_standing = load_standing
        self._uses = uses
        self._claims: dict[str, Claims] = {}
        self._standings: dict[UUID | bytes, tuple[float, Standing | None]] = {}

    async def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller of an `Authorization` header (RFC 6750, section 2.1).

        Raises:
            Unauthenticated: there is no bearer token.
            InvalidToken: there is one, and it does not hold.
        """
        if not authorization:
            raise Unauthenticated
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated
        token = token.lstrip(" ")
        if token.startswith(API_KEY_PREFIX):
            caller = await self._bearer_of_key(token)
        else:
            caller = await self._bearer_of_token(token)
        self._uses.note(caller.token_id)
        return caller

    async def _bearer_of_key(self, key: str) -> Caller:
        digest = hash_api_key(key)
        standing = await self._standing(digest) if digest else None
        if standing is None:
            raise InvalidToken
        return caller_of(standing, frozenset(standing.scopes))

    async def _bearer_of_token(self, token: str) -> Caller:
        claims = self._verified(token)
        standing = await self._standing(claims.session_id)
        if standing is None or standing.user_id != claims.user_id:
            raise InvalidToken
        # A token may have been signed before its session was narrowed.
        return caller_of(standing, claims.scopes.intersection(standing.scopes))

    def _verified(self, token: str) -> Claims:
        claims = self._claims.get(token)
        if claims is None:
            claims = self._tokens.verify(token)
            _remember(self._claims, token, claims)
        elif not self._tokens.believes(claims):
            del self._claims[token]
            raise InvalidToken
        return claims

    async def _standing(self, credential: UUID | bytes) -> Standing | None:
        known = self._standings.get(credential)
        now = time.monotonic()
        if known is not None and now - known[0] < _STANDING_LIFETIME:
            return known[1]
        standing = await self._load_standing(credential)
        # The age counts from before the question: the answer may be as old as that.
        self._standings.pop(credential, None)
        _remember(self._standings, credential, (now, standing))
        return standing


def caller_of(standing: Standing, scopes: frozenset[str]) -> Caller:
    """Give the caller that a token makes of its bearer."""
    user_id, role, version = standing.user_id, standing.role, standing.token_version
    return Caller(user_id, role, scopes, version, standing.token_id)


def recheck(session: Session, caller: Caller, *, hold: bool) -> Caller:
    """Say, in the transaction of a write, what the caller is now.

    With `hold` the account stays so until the transaction ends.

    Raises:
        InvalidToken: their token was ended meanwhile.
    """
    standing = Token.standing(session.connection(), caller.token_id, hold=hold)
    if standing is None:
        raise InvalidToken
    return caller_of(standing, caller.scopes.intersection(standing.scopes))


def _remember(cache: dict[K, V], key: K, value: V) -> None:
    """Keep an entry, at the cost of the oldest when there are too many."""
    if len(cache) >= _CACHE_SIZE:
        del cache[next(iter(cache))]
    cache[key] = value
