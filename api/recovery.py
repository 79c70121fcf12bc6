"""Links that were sent by mail: asking for them, and doing what they are for."""

from sqlalchemy.orm import Session

from api.security import Caller
from models import recovery
from models.audit_event import Origin
from models.password import Passwords
from models.seal import Seal
from models.user import User


def get_confirm() -> None:
    """The page is the template of this name; what it needs is behind the # of its address."""


def request_email_verification(session: Session, caller: Caller) -> None:
    """Send a link that verifies the caller's address."""
    recovery.request_verification(session, User.of(session, caller))


def request_email_change(
    session: Session,
    caller: Caller,
    body: recovery.EmailChange,
    passwords: Passwords,
    seal: Seal,
    origin: Origin,
) -> None:
    """Send a link to a new address that moves the caller's account there."""
    user = User.of(session, caller)
    recovery.request_change(
        session, user, body, by=caller, passwords=passwords, seal=seal, origin=origin
    )


def confirm_email(session: Session, body: dict[str, str], origin: Origin) -> None:
    """Verify an address, or move an account to it."""
    recovery.confirm_email(session, body["token"], origin)


def request_password_reset(session: Session, body: dict[str, str], origin: Origin) -> None:
    """Send a link that sets a new password, if the address has an account."""
    recovery.request_reset(session, body["email"], origin)


def confirm_password_reset(
    session: Session, body: dict[str, str], passwords: Passwords, origin: Origin
) -> None:
    """Set a new password by such a link."""
    recovery.reset_password(session, body["token"], body["password"], passwords, origin)
