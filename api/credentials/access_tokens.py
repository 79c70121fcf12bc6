"""Access tokens: JWTs as profiled by RFC 9068, issued for a session and verified.

They are signed with Ed25519 (RFC 8037) and verified as RFC 8725 recommends: one algorithm, one
type, every claim required.
"""

import base64
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import jwt

from api.contract.engine_errors import InvalidToken
from api.credentials.signing import KeyRing
from models.access.session import NewSession

TOKEN_LIFETIME: Final = 3600
"""Seconds until an access token expires."""

_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_HEADER = frozenset({"alg", "typ", "kid"})
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]{86})")
_USER_ID = re.compile(r"[1-9][0-9]{0,17}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLAIMS = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "scope", "sid"]
_MAX_TOKEN = 2048
_CLOCK_SKEW = 30
"""Maximum seconds by which the clock of the replica that signed a token may be ahead."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The response to a successful sign-in (RFC 6749, section 5.1)."""

    access_token: str
    expires_in: int
    scope: str
    refresh_token: str
    session_id: UUID
    token_type: str = "bearer"  # noqa: S105 - the type's name, not a secret.


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token."""

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

    def issue(self, grant: NewSession) -> AccessToken:
        """Sign an access token for a session, which expires no later than the session."""
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
        """Return whether claims that were verified earlier are still valid."""
        return claims.expires_at > time.time() and self._keys.find(claims.key_id) is not None

    def verify(self, token: str) -> Claims:
        """Check a token's form, signature and claims.

        Raises:
            InvalidToken: the token is invalid, for whatever reason.
        """
        try:
            form = _FORM.fullmatch(token) if len(token) <= _MAX_TOKEN else None
            # Only one spelling of a signature is valid: unused bits of its last character must not
            # be set.
            if form is None or _spelling(form[1]) != form[1]:
                raise InvalidToken
            header = jwt.get_unverified_header(token)
            # A header with jku, jwk, x5u or crit would let the sender choose the key or the rules.
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
    """Check the types of the claims; a signed token with other types was not issued here.

    Clock skew is tolerated only for the start of a token's validity, not for its end.
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
    """Return the canonical spelling of a base64url text (RFC 7515, section 2)."""
    decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode()
