"""The scopes of each role. Access tokens and API keys carry a subset of them."""

from collections.abc import Iterable, Mapping
from typing import Final

_USER = (
    *("profile:read", "profile:write", "users:read", "users:write"),
    *("products:read", "orders:read", "orders:write"),
    *("audit:read", "tokens:read", "tokens:write", "security:read", "security:write"),
)
ADMIN_SCOPE: Final = "admin:access"
"""Scope required, besides the administrator role, to access other accounts' resources."""
_ADMINISTRATOR = (
    ADMIN_SCOPE,
    *("users:list", "products:write", "stock:read", "stock:write", "orders:manage"),
    *("events:read", "jobs:read", "webhooks:read", "webhooks:write"),
)
SCOPES_OF_ROLE: Final[Mapping[str, tuple[str, ...]]] = {
    "user": _USER,
    "admin": (*_USER, *_ADMINISTRATOR),
}
_OF_SESSIONS = frozenset({"tokens:write", "security:write"})
"""Scopes reserved for sessions. With them, an API key could create new keys or change the sign-in
methods, and so keep access after its own end."""


def scope_fault(scopes: Iterable[str]) -> str | None:
    """Return the error in an operation's required scopes, or `None` if they are valid.

    An operation that requires an administrator scope must also require `admin:access`. Otherwise an
    administrator's API key without `admin:access` could act as an administrator.
    """
    required = set(scopes)
    if unknown := sorted(required.difference(*SCOPES_OF_ROLE.values())):
        return f"requires the scope {unknown[0]}, which no role has"
    reserved = sorted(required - set(_USER) - {ADMIN_SCOPE})
    if reserved and ADMIN_SCOPE not in required:
        return f"requires {reserved[0]}, which only administrators have, without {ADMIN_SCOPE}"
    return None


def grantable(scopes: Iterable[str]) -> frozenset[str]:
    """Return the subset of a caller's scopes that an API key may have."""
    return frozenset(scopes) - _OF_SESSIONS
