"""The caller's own account."""

from sqlalchemy.orm import Session

from api.security import Caller
from models.account import Changes, change_account
from models.audit_event import Origin
from models.password import Passwords
from models.seal import Seal
from models.user import User


def get_profile(session: Session, caller: Caller) -> User:
    """Read one's own account."""
    return User.of(session, caller)


def update_profile(
    session: Session,
    caller: Caller,
    body: Changes,
    if_match: frozenset[int] | None,
    passwords: Passwords,
    seal: Seal,
    origin: Origin,
) -> User:
    """Change one's own account."""
    user = User.of(session, caller)
    user.require_version(if_match)
    change_account(session, user, body, by=caller, passwords=passwords, seal=seal, origin=origin)
    return user
