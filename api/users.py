"""Handlers for accounts, for their owners and administrators."""

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.access.secret_box import SecretBox
from models.accounts.account import Changes, change_account, erase_account
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.known_address import KnownAddress
from models.identity.password import Passwords
from models.identity.token import end_all_tokens
from models.identity.user import Role, User
from models.identity.user_list import find_users
from models.identity.user_view import UserView, view_user
from models.lifecycle import Lifecycle
from models.messages.message import Message
from models.storage.base import Versions
from models.storage.page import Page
from models.storage.reader import Reader


def create_user(
    session: Session,
    body: dict[str, str],
    passwords: Passwords,
    origin: RequestOrigin,
    local_email: bool,
) -> User:
    """Register an account; without a password, the owner gets a link to set one."""
    password = body.get("password")
    # Hashing is slow, so it is done before the first statement takes a lock.
    password_hash = passwords.hash(password, email=body["email"]) if password else None
    user = User.register(
        session,
        name=body["name"],
        email=body["email"],
        password_hash=password_hash,
        local_email=local_email,
    )
    KnownAddress.note(session, user, origin)
    AuditEvent.record(session, "account.create", origin, user_id=user.id)
    Message.enqueue(session, "welcome", user.id)
    return user


def list_users(
    session: Session,
    origin: RequestOrigin,
    active: bool | None,
    role: Role | None,
    email: str | None,
    q: str | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[User]:
    """List accounts by id, and record that somebody was searched for."""
    page = find_users(
        session, active=active, role=role, email=email, words=q, after=cursor, limit=limit
    )
    if email is not None or q is not None:
        found = page.items[0].id if email is not None and page.items else None
        AuditEvent.record(session, "account.search", origin, user_id=found)
    return page


def get_user(reader: Reader, caller: Caller, user_id: int) -> UserView:
    """Return an account that the caller may see."""
    return view_user(reader, caller, user_id)


def update_user(
    session: Session,
    caller: Caller,
    user_id: int,
    body: Changes,
    if_match: Versions,
    passwords: Passwords,
    seal: SecretBox,
    origin: RequestOrigin,
) -> User:
    """Update the fields of an account that the caller may change."""
    user = User.visible_to(session, caller, user_id)
    user.require_version(if_match)
    change_account(session, user, body, by=caller, passwords=passwords, seal=seal, origin=origin)
    return user


def delete_user(
    session: Session,
    caller: Caller,
    user_id: int,
    if_match: Versions,
    lifecycle: Lifecycle,
    origin: RequestOrigin,
) -> None:
    """Erase an account's personal data."""
    user = User.visible_to(session, caller, user_id)
    user.require_version(if_match)
    erase_account(session, lifecycle, user, by=caller, origin=origin)


def sign_out_user(
    session: Session, caller: Caller, user_id: int, if_match: Versions, origin: RequestOrigin
) -> None:
    """Revoke all sessions and API keys of an account."""
    user = User.visible_to(session, caller, user_id)
    user.require_version(if_match)
    end_all_tokens(session, user, origin)
