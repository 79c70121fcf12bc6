"""What each role may do, as scopes; an access token and an API key carry a choice of them."""

from collections.abc import Iterable, Mapping
from typing import Final

_USER = (
    *("profile:read", "profile:write", "users:read", "users:write"),
    *("products:read", "orders:read", "orders:write"),
    *("audit:read", "tokens:read", "tokens:write", "security:read", "security:write"),
)
ADMIN_SCOPE: Final = "admin:access"
"""What it takes, besides the role, to see and change what belongs to others."""
_ADMINISTRATOR = (
    ADMIN_SCOPE,
    *("users:list", "products:write", "stock:read", "stock:write", "orders:manage"),
)
SCOPES_OF_ROLE: Final[Mapping[str, tuple[str, ...]]] = {
    "user": _USER,
    "admin": (*_USER, *_ADMINISTRATOR),
}
_OF_SESSIONS = frozenset({"tokens:write", "security:write"})
"""What lets a token outlive itself: only who signed in may make keys and change how to sign in."""


def grantable(scopes: Iterable[str]) -> frozenset[str]:
    """Give those of a caller's scopes that an API key may have."""
    return frozenset(scopes) - _OF_SESSIONS
