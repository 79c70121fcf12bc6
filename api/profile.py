"""Handlers for the caller's own account."""

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.access.secret_box import SecretBox
from models.accounts.account import Changes, change_account
from models.accounts.person_export import PersonExport, export_person
from models.files.picture import NewPicture
from models.identity.audit_event import RequestOrigin
from models.identity.password import Passwords
from models.identity.user import User
from models.storage.base import Versions
from models.storage.reader import Reader


def get_profile(reader: Reader, caller: Caller) -> User:
    """Return the caller's account."""
    return User.of(reader, caller)


def export_profile(reader: Reader, caller: Caller) -> PersonExport:
    """Return everything that is stored about the caller."""
    return export_person(reader, caller)


def update_profile(
    session: Session,
    caller: Caller,
    body: Changes,
    if_match: Versions,
    passwords: Passwords,
    seal: SecretBox,
    origin: RequestOrigin,
) -> User:
    """Update the caller's account."""
    user = User.of(session, caller)
    user.require_version(if_match)
    change_account(session, user, body, by=caller, passwords=passwords, seal=seal, origin=origin)
    return user


def set_avatar(session: Session, caller: Caller, body: NewPicture, if_match: Versions) -> User:
    """Set the picture of the caller's account."""
    user = User.locked(session, caller)
    user.require_version(if_match)
    user.set_avatar(session, body["image"])
    return user


def delete_avatar(session: Session, caller: Caller, if_match: Versions) -> None:
    """Remove the picture of the caller's account, if it has one."""
    user = User.locked(session, caller)
    user.require_version(if_match)
    user.set_avatar(session, None)
