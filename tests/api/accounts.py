"""Accounts made straight in the database, and tokens without a sign-in, because both are fast."""

import itertools
from collections.abc import Callable

from sqlalchemy.orm import Session

from api.security import Tokens
from api.signing import load_signing_key
from models.user import Role, User
from tests.service import CHEAP, PASSWORD, Service

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


def token_for(service: Service, user: User) -> str:
    """Sign what a sign-in to the account would have given at this moment."""
    settings = service.app.settings
    key = load_signing_key(settings.signing_key_file, create=False)
    return Tokens(key, settings.public_url).issue(user).access_token


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}
