"""Accounts made straight in the database, and tokens without a sign-in, because both are fast."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from api.signing import KeyRing
from models.audit_event import Origin
from models.session import Grant
from models.token import Token
from models.user import Role, User
from tests.service import CHEAP, PASSWORD, Service
from tests.signing_in import access_token, begin_session

_numbers = itertools.count(1)
_HASH = CHEAP.hash(PASSWORD, email="nobody@concord.example")


def fresh_email() -> str:
    """An address that no other account of this process has."""
    return f"account{next(_numbers)}@concord.example"


def fresh_address() -> dict[str, str]:
    """The header that gives a request a network address that nothing has been counted for."""
    number = next(_numbers)
    return {"X-Forwarded-For": f"198.18.{number >> 8 & 255}.{number & 255}"}


def make_account(
    service: Service,
    *,
    name: str = "Alice Adams",
    role: Role = "user",
    email: str | None = None,
    password_hash: str | None = _HASH,
) -> User:
    """Store an active account whose password is `PASSWORD`, hashed cheaply."""
    user = User.draft(name=name, email=email or fresh_email(), password_hash=password_hash)
    user.role = role
    service.app.database.transact(lambda session: session.add(user), write=True)
    return user


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


def grant_for(service: Service, user: User) -> Grant:
    """Begin a session, as a sign-in would have done while the account was as `user` says."""
    return begin_session(service.app.database, user, keys_of(service))


def token_for(service: Service, user: User) -> str:
    """Sign what a sign-in would have given while the account was as `user` says."""
    url = service.app.settings.public_url
    return access_token(service.app.database, user, keys_of(service), url)


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
        origin=Origin(),
    )
    return service.app.database.transact(create, write=True)


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}
