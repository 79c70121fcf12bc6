"""Credentials made without a sign-in, because a password hash is slow, and accounts read back."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from api.credentials.signing import KeyRing
from models.access.session import NewSession
from models.identity.audit_event import RequestOrigin
from models.identity.token import Token
from models.identity.user import User
from tests.factories import make_access_token, make_session
from tests.service import Service

_numbers = itertools.count(1)


def fresh_address() -> dict[str, str]:
    """The header that gives a request a network address that nothing has been counted for."""
    number = next(_numbers)
    return {"X-Forwarded-For": f"198.18.{number >> 8 & 255}.{number & 255}"}


def read_account(service: Service, user_id: int) -> User:
    """Read an account's row, erased or not."""
    return service.app.database.transact(
        lambda session: session.get_one(User, user_id), write=False
    )


def edit_account(service: Service, user_id: int, edit: Callable[[Session, User], None]) -> None:
    """Change an account behind the service's back."""
    service.app.database.transact(
        lambda session: edit(session, session.get_one(User, user_id)), write=True
    )


def grant_for(service: Service, user: User) -> NewSession:
    """Begin a session, as a sign-in would have done while the account was as `user` says."""
    return make_session(service.app.database, user, keys_of(service))


def token_for(service: Service, user: User) -> str:
    """Sign what a sign-in would have given while the account was as `user` says."""
    url = service.app.settings.public_url
    return make_access_token(service.app.database, user, keys_of(service), url)


def keys_of(service: Service) -> KeyRing:
    """The keys that the service signs with."""
    return KeyRing.load(service.app.settings.signing_key_file, create=False)


def key_for(service: Service, user: User, *scopes: str, days: float = 1) -> tuple[Token, str]:
    """Make an API key with some scopes."""
    create = partial(
        Token.create_key,
        user=user,
        name="A key",
        scopes=scopes,
        lifetime=timedelta(days=days),
        origin=RequestOrigin(),
    )
    return service.app.database.transact(create, write=True)


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}
