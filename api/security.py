"""From a bearer token to the caller: signed tokens, what they allow, and whether they still hold.

Access tokens are JWTs of the profile in RFC 9068, signed with Ed25519 (RFC 8037) and verified as
RFC 8725 asks: one algorithm, one type, every claim required. A token says what the account was
when it was signed; that the account still is so is asked of the database at most twice a second.
"""

import base64
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import jwt

from api.contract.errors import InvalidToken, Unauthenticated
from api.signing import SigningKey

K = TypeVar("K")
V = TypeVar("V")

TOKEN_LIFETIME: Final = 3600
"""Seconds that an access token is good for."""

_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_HEADER = frozenset({"alg", "typ", "kid"})
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]{86})")
_USER_ID = re.compile(r"[1-9][0-9]{0,17}")
_CLAIMS = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "ver"]
_MAX_TOKEN = 2048
_CLOCK_SKEW = 30
"""Seconds that the clock of the replica that signed may be ahead of this one's."""
_CACHE_SIZE = 10_000
_STATE_LIFETIME = 0.5
"""Seconds that an account's state may be old: less than the second within which changes bind."""

_USER_SCOPES = (
    *("profile:read", "profile:write", "users:read", "users:write"),
    *("products:read", "orders:read", "orders:write"),
)
_ADMINISTRATOR_SCOPES = (
    *("users:list", "products:write", "stock:read", "stock:write", "orders:manage"),
)
SCOPES_OF_ROLE: Final = {"user": _USER_SCOPES, "admin": (*_USER_SCOPES, *_ADMINISTRATOR_SCOPES)}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, and what their token lets them do."""

    user_id: int
    role: str
    scopes: frozenset[str]
    token_version: int

    @property
    def is_admin(self) -> bool:
        """Whether they run the service."""
        return self.role == "admin"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a successful sign-in answers (RFC 6749, section 5.1)."""

    access_token: str
    expires_in: int
    scope: str
    token_type: str = "bearer"  # noqa: S105 - the type's name, not a secret.


class Account(Protocol):
    """What of an account goes into a token."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def role(self) -> str:
        """What it may do, by name."""

    @property
    def token_version(self) -> int:
        """How often all its tokens were ended."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    user_id: int
    scopes: frozenset[str]
    token_version: int
    expires_at: int


class Tokens:
    """Signs and verifies access tokens."""

    def __init__(self, key: SigningKey, issuer: str) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = f"{issuer}/v1"

    def issue(self, account: Account) -> AccessToken:
        """Sign a token for an account with all scopes of its role."""
        now = int(time.time())
        scope = " ".join(SCOPES_OF_ROLE[account.role])
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(account.id),
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_LIFETIME,
            "jti": uuid.uuid4().hex,
            "scope": scope,
            "ver": account.token_version,
        }
        token = jwt.encode(
            claims, self._key.private, _ALGORITHM, headers={"typ": _TYPE, "kid": self._key.id}
        )
        return AccessToken(token, TOKEN_LIFETIME, scope)

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
            decoded = jwt.decode_complete(
                token,
                self._key.public,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_CLOCK_SKEW,
                options={"require": _CLAIMS},
            )
            header, claims = decoded["header"], decoded["payload"]
            # A header with jku, jwk, x5u or crit asks for keys or rules of the sender's choice.
            if set(header) != _HEADER or header["typ"] != _TYPE or header["kid"] != self._key.id:
                raise InvalidToken
            return _claims(claims, now=time.time())
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
            raise InvalidToken from None


def _claims(claims: Mapping[str, object], *, now: float) -> Claims:
    """Read the claims strictly: what is not of its type is not ours, whoever signed it.

    The leeway of the clocks is for the beginning of a token's life; its end is the end.
    """
    subject, scope, version = claims["sub"], claims["scope"], claims["ver"]
    expires_at, issued_at = claims["exp"], claims["iat"]
    if not (
        isinstance(subject, str)
        and _USER_ID.fullmatch(subject)
        and isinstance(scope, str)
        and isinstance(claims["jti"], str)
        and claims["jti"]
        and type(version) is type(expires_at) is type(issued_at) is type(claims["nbf"]) is int
        and expires_at > now
    ):
        raise InvalidToken
    return Claims(int(subject), frozenset(scope.split(" ")), version, expires_at)


def _spelling(signature: str) -> str:
    """Return how a base64url text (RFC 7515, section 2) is spelled by everybody who encodes it."""
    decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode()


class AccountState(Protocol):
    """What an account is now."""

    @property
    def token_version(self) -> int:
        """How often all its tokens were ended."""

    @property
    def active(self) -> bool:
        """Whether it can be used."""

    @property
    def role(self) -> str:
        """What it may do, by name."""


def require_standing(state: AccountState | None, token_version: int) -> AccountState:
    """Insist that an account is such that a token of this version still holds.

    Raises:
        InvalidToken: the account is gone or disabled, or its tokens were ended.
    """
    if state is None or not state.active or state.token_version != token_version:
        raise InvalidToken
    return state


class LoadState(Protocol):
    """Asks the database, in a thread, what an account is now; None when it is no more."""

    async def __call__(self, user_id: int) -> AccountState | None:
        """Return its state, or None."""


class Authenticator:
    """Finds the caller of a request. It lives on the event loop and is not shared by threads."""

    def __init__(self, tokens: Tokens, load_state: LoadState) -> None:
        self._tokens = tokens
        self._load_state = load_state
        self._claims: dict[str, Claims] = {}
        self._states: dict[int, tuple[float, AccountState | None]] = {}

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
        claims = self._verified(token.lstrip(" "))
        state = require_standing(await self._state(claims), claims.token_version)
        return Caller(claims.user_id, state.role, claims.scopes, claims.token_version)

    def _verified(self, token: str) -> Claims:
        claims = self._claims.get(token)
        if claims is None:
            claims = self._tokens.verify(token)
            _remember(self._claims, token, claims)
        elif claims.expires_at <= time.time():
            del self._claims[token]
            raise InvalidToken
        return claims

    async def _state(self, claims: Claims) -> AccountState | None:
        known = self._states.get(claims.user_id)
        now = time.monotonic()
        if known is not None and now - known[0] < _STATE_LIFETIME:
            state = known[1]
            # A token that is newer than what is known of its account means that this is outdated.
            if state is None or state.token_version >= claims.token_version:
                return state
        state = await self._load_state(claims.user_id)
        # The age counts from before the question: the answer may be as old as that.
        self._states.pop(claims.user_id, None)
        _remember(self._states, claims.user_id, (now, state))
        return state


def _remember(cache: dict[K, V], key: K, value: V) -> None:
    """Keep an entry, at the cost of the oldest when there are too many."""
    if len(cache) >= _CACHE_SIZE:
        del cache[next(iter(cache))]
    cache[key] = value
