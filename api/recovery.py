"""Email verification, email changes and password resets, by links sent by email."""

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.access.secret_box import SecretBox
from models.accounts import links
from models.identity.audit_event import RequestOrigin
from models.identity.password import Passwords
from models.identity.user import User


def get_confirm() -> None:
    """Return the confirmation page, whose token is in the URL's fragment."""


def request_email_verification(session: Session, caller: Caller) -> None:
    """Send a link that verifies the caller's email address."""
    links.request_verification(session, User.locked(session, caller))


def request_email_change(
    session: Session,
    caller: Caller,
    body: links.EmailChange,
    passwords: Passwords,
    seal: SecretBox,
    origin: RequestOrigin,
    local_email: bool,
) -> None:
    """Send a link to a new address, which changes the account's email address to it."""
    user = User.of(session, caller)
    links.request_change(
        session,
        user,
        body,
        by=caller,
        passwords=passwords,
        seal=seal,
        origin=origin,
        local_email=local_email,
    )


def confirm_email(
    session: Session, body: dict[str, str], passwords: Passwords, origin: RequestOrigin
) -> None:
    """Verify an email address, or change an account's address to it."""
    token, password = body["token"], body["current_password"]
    links.confirm_email(session, token, password, passwords, origin)


def request_password_reset(session: Session, body: dict[str, str], origin: RequestOrigin) -> None:
    """Send a link to reset the password, if the address has an account."""
    links.request_reset(session, body["email"], origin)


def confirm_password_reset(
    session: Session, body: dict[str, str], passwords: Passwords, origin: RequestOrigin
) -> None:
    """Set a new password with the token of an emailed link."""
    links.reset_password(session, body["token"], body["password"], passwords, origin)
