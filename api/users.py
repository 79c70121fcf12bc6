"""Accounts, as their owners and administrators see them."""

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from api.security import Caller
from models.account import Changes, change_account, erase_account
from models.audit_event import AuditEvent, Origin
from models.message import Message
from models.page import Page
from models.password import Passwords
from models.seal import Seal
from models.token import end_all_tokens
from models.user import Role, User
from models.user_view import UserView, view_user


def create_user(
    session: Session, body: dict[str, str], passwords: Passwords, origin: Origin
) -> User:
    """Register an account; one without a password gets a link to set it."""
    password = body.get("password")
    # The hash is made before the first statement, so that no lock is held while it takes its time.
    password_hash = passwords.hash(password, email=body["email"]) if password else None
    user = User.register(
        session, name=body["name"], email=body["email"], password_hash=password_hash
    )
    AuditEvent.record(session, "account.create", origin, user_id=user.id)
    Message.enqueue(session, "welcome", user.id)
    return user


def list_users(
    session: Session,
    active: bool | None,
    role: Role | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[User]:
    """List accounts in the order of their ids."""
    return User.page(session, active=active, role=role, after=cursor, limit=limit)


def get_user(connection: Connection, caller: Caller, user_id: int) -> UserView:
    """Read an account that the caller may see."""
    return view_user(connection, caller, user_id)


def update_user(
    session: Session,
    caller: Caller,
    user_id: int,
    body: Changes,
    if_match: frozenset[int] | None,
    passwords: Passwords,
    seal: Seal,
    origin: Origin,
) -> User:
    """Change what the caller may change of an account that they may see."""
    user = User.visible_to(session, caller, user_id)
    user.require_version(if_match)
    change_account(session, user, body, by=caller, passwords=passwords, seal=seal, origin=origin)
    return user


def delete_user(
    session: Session,
    caller: Caller,
    user_id: int,
    if_match: frozenset[int] | None,
    origin: Origin,
) -> None:
    """Erase the person behind an account."""
    user = User.visible_to(session, caller, user_id)
    user.require_version(if_match)
    erase_account(session, user, by=caller, origin=origin)


def sign_out_user(session: Session, caller: Caller, user_id: int, origin: Origin) -> None:
    """End all sessions and API keys of an account."""
    end_all_tokens(session, User.visible_to(session, caller, user_id), origin)
