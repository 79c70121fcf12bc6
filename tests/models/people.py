"""Accounts for the tests of the models, and how to look at them and change them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TypedDict, Unpack

from sqlalchemy.orm import Session

from models.audit_event import Origin
from models.database import Database
from models.page import Page
from models.token import Token, TokenKind
from models.user import Role, User

_numbers = count(1)


class Change(TypedDict, total=False):
    """What can be changed of an account."""

    name: str
    email: str
    role: Role
    active: bool
    password_hash: str


@dataclass(frozen=True)
class Person:
    """Whoever asks."""

    user_id: int
    is_admin: bool = False
    token_version: int = 1


ROOT = Person(0, is_admin=True)


def make_user(
    database: Database,
    *,
    name: str = "Alice Adams",
    email: str | None = None,
    role: Role = "user",
    active: bool = True,
    password_hash: str | None = "a hash",
) -> User:
    """Store an account; by default everyone has another address."""
    user = User.draft(
        name=name,
        email=email or f"person{next(_numbers)}@example.com",
        password_hash=password_hash,
    )
    user.role, user.active = role, active
    database.transact(lambda session: session.add(user), write=True)
    return user


def make_token(database: Database, user: User, *, kind: TokenKind = "session") -> Token:
    """Begin a session of an account, or make an API key without a text."""

    def work(session: Session) -> Token:
        lifetime = timedelta(days=1)
        return Token.begin(
            session, user, kind, scopes=["users:read"], lifetime=lifetime, origin=Origin()
        )

    return database.transact(work, write=True)


def read_user(database: Database, user_id: int) -> User:
    """Read an account as it is now."""
    return database.transact(lambda session: User.visible_to(session, ROOT, user_id), write=False)


def read_page(
    database: Database,
    *,
    active: bool | None = None,
    role: Role | None = None,
    after: Sequence[object] | None = None,
    limit: int = 100,
) -> Page[User]:
    """Read a page of the list."""
    return database.transact(
        lambda session: User.page(session, active=active, role=role, after=after, limit=limit),
        write=False,
    )


def change_user(database: Database, user_id: int, **change: Unpack[Change]) -> User:
    """Change an account in a transaction of its own."""

    def work(session: Session) -> User:
        user = User.visible_to(session, ROOT, user_id)
        user.change(session, **change)
        return user

    return database.transact(work, write=True)


def erase_user(database: Database, user_id: int) -> None:
    """Erase an account in a transaction of its own."""
    database.transact(
        lambda session: User.visible_to(session, ROOT, user_id).erase(session), write=True
    )
