"""Accounts, as their owners and administrators see them."""

from sqlalchemy.orm import Session

from api.security import Caller
from models.account import Changes, change_account, erase_account
from models.page import Page
from models.password import Passwords
from models.user import Role, User


def create_user(session: Session, body: dict[str, str], passwords: Passwords) -> User:
    """Register an account; nobody can sign in to one without a password."""
    password = body.get("password")
    # The hash is made before the first statement, so that no lock is held while it takes its time.
    password_hash = passwords.hash(password, email=body["email"]) if password else None
    return User.register(
        session, name=body["name"], email=body["email"], password_hash=password_hash
    )


def list_users(
    session: Session,
    active: bool | None,
    role: Role | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[User]:
    """List accounts in the order of their ids."""
    return User.page(session, active=active, role=role, after=cursor, limit=limit)


def get_user(session: Session, caller: Caller, user_id: int) -> User:
    """Read an account that the caller may see."""
    return User.visible_to(session, caller, user_id)


def update_user(
    session: Session,
    caller: Caller,
    user_id: int,
    body: Changes,
    if_match: frozenset[int] | None,
    passwords: Passwords,
) -> User:
    """Change what the caller may change of an account that they may see."""
    user = User.visible_to(session, caller, user_id)
    user.require_version(if_match)
    change_account(session, user, body, by=caller, passwords=passwords)
    return user


def delete_user(
    session: Session, caller: Caller, user_id: int, if_match: frozenset[int] | None
) -> None:
    """Erase the person behind an account."""
    user = User.visible_to(session, caller, user_id)
    user.require_version(if_match)
    erase_account(session, user)
