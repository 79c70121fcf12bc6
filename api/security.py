"""From a bearer token to the caller: signed tokens, what they allow, and whether they still hold.

Access tokens are JWTs of the profile in RFC 9068, signed with Ed25519 (RFC 8037) and verified as
RFC 8725 asks: one algorithm, one type, every claim required. A token says what the account was
when it was signed; that the account still is so is asked of the database at most twice a second.
"""

import time
import uuid
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
_CLAIMS = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "ver"]
_MAX_TOKEN = 2048
_CACHE_SIZE = 10_000
_STATE_LIFETIME = 0.5
"""Seconds that an account's state may be old: less than the second within which changes bind."""

_USER_SCOPES = ("profile:read", "profile:write", "users:read", "users:write")
SCOPES_OF_ROLE: Final = {"user": _USER_SCOPES, "admin": (*_USER_SCOPES, "users:list")}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, and what their token lets them do."""

    user_id: int
    role: str
    scopes: frozenset[str]
    token_id: str

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
    token_id: str
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
            if len(token) > _MAX_TOKEN:
                raise InvalidToken
            decoded = jwt.decode_complete(
                token,
                self._key.public,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": _CLAIMS},
            )
            header, claims = decoded["header"], decoded["payload"]
            # A header with jku, jwk, x5u or crit asks for keys or rules of the sender's choice.
            if set(header) != _HEADER or header["typ"] != _TYPE or header["kid"] != self._key.id:
                raise InvalidToken
            return Claims(
                user_id=int(claims["sub"]),
                scopes=frozenset(claims["scope"].split(" ")),
                token_id=str(claims["jti"]),
                token_version=int(claims["ver"]),
                expires_at=int(claims["exp"]),
            )
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
            raise InvalidToken from None


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
        claims = self._verified(token)
        state = await self._state(claims.user_id)
        if state is None or not state.active or state.token_version != claims.token_version:
            raise InvalidToken
        return Caller(claims.user_id, state.role, claims.scopes, claims.token_id)

    def _verified(self, token: str) -> Claims:
        claims = self._claims.get(token)
        if claims is None:
            claims = self._tokens.verify(token)
            _remember(self._claims, token, claims)
        elif claims.expires_at <= time.time():
            del self._claims[token]
            raise InvalidToken
        return claims

    async def _state(self, user_id: int) -> AccountState | None:
        known = self._states.get(user_id)
        now = time.monotonic()
        if known is not None and now - known[0] < _STATE_LIFETIME:
            return known[1]
        state = await self._load_state(user_id)
        # The age counts from before the question: the answer may be as old as that.
        self._states.pop(user_id, None)
        _remember(self._states, user_id, (now, state))
        return state


def _remember(cache: dict[K, V], key: K, value: V) -> None:
    """Keep an entry, at the cost of the oldest when there are too many."""
    if len(cache) >= _CACHE_SIZE:
        del cache[next(iter(cache))]
    cache[key] = value
