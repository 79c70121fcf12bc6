"""What links in messages do: verify an address, move an account to another, set a password."""

from typing import NotRequired, TypedDict

from sqlalchemy.orm import Session

from models.account import require_code, require_password
from models.actor import Actor
from models.audit_event import AuditEvent, Origin
from models.email_address import EmailAddress
from models.errors import InvalidLink
from models.message import Message
from models.one_time_token import OneTimeToken, Purpose
from models.password import Passwords
from models.seal import Seal
from models.user import User


class EmailChange(TypedDict):
    """A new address, with the proof of being the owner."""

    email: str
    current_password: str
    code: NotRequired[str]


def request_verification(session: Session, user: User) -> None:
    """Have a link sent that verifies an account's address, unless it is verified already."""
    if not user.email_verified:
        Message.enqueue(session, "verify_email", user.id, token_version=user.token_version)


def request_change(
    session: Session,
    user: User,
    request: EmailChange,
    *,
    by: Actor,
    passwords: Passwords,
    seal: Seal,
    origin: Origin,
) -> None:
    """Have a link sent to a new address that moves the account there.

    Whether another account has the address is nothing that is looked at here.

    Raises:
        ProofNeeded, WrongPassword, WrongCode: the owner did not prove to be the owner.
        InvalidEmail: there is no such address.
        AccessEnded: their tokens were ended meanwhile.
    """
    user.require_standing(by)
    email, current = request["email"], request["current_password"]
    require_password(session, user, current, passwords, origin, "email.change-request")
    EmailAddress.parse(email)
    require_code(session, user, request.get("code"), seal, origin, "email.change-request")
    Message.enqueue(session, "change_email", user.id, email=email, token_version=user.token_version)
    AuditEvent.record(session, "email.change-request", origin, user_id=user.id)


def confirm_email(session: Session, secret: str, origin: Origin) -> None:
    """Do what a link that was sent to an address is for: whoever has it reads mail there.

    Moving to another address ends all of the account's tokens, and the old address is told.

    Raises:
        InvalidLink: there is no such link, it was used, or it has expired.
        EmailTaken: another account has the address by now.
    """
    token, user = _find(session, secret, "verify_email", "change_email")
    if token.purpose == "verify_email":
        _redeem(session, token)
        user.verify_email(session)
        AuditEvent.record(session, "email.verify", origin, user_id=user.id)
        return
    email, before = token.email or user.email, user.email
    _redeem(session, token)
    user.change(session, email=email)
    AuditEvent.record(session, "email.change", origin, user_id=user.id)
    Message.enqueue(session, "email_changed", user.id, email=before)


def request_reset(session: Session, email: str, origin: Origin) -> None:
    """Have a link sent that sets a new password, if the address has an account.

    Whether it has is nothing that is looked at here.
    """
    key = EmailAddress.normal_form(email)
    Message.enqueue(session, "set_password", None, email=key, origin=origin)


def reset_password(
    session: Session, secret: str, password: str, passwords: Passwords, origin: Origin
) -> None:
    """Set the password of the account that a link was sent to, and end all of its tokens.

    The link was read in the account's mail, so its address is verified by that.

    Raises:
        InvalidLink: there is no such link, it was used, or it has expired.
        WeakPassword: the link is good, and this password is not.
    """
    token, user = _find(session, secret, "set_password")
    password_hash = passwords.hash(password, email=user.email)
    _redeem(session, token)
    OneTimeToken.withdraw(session, user.id, "set_password")
    user.email_verified = True
    user.change(session, password_hash=password_hash)
    AuditEvent.record(session, "password.reset", origin, user_id=user.id)
    Message.enqueue(session, "password_changed", user.id)


def _find(session: Session, secret: str, *purposes: Purpose) -> tuple[OneTimeToken, User]:
    for purpose in purposes:
        token = OneTimeToken.find(session, purpose, secret)
        user = session.get(User, token.user_id) if token else None
        if token is not None and user is not None and token.is_for(user):
            return token, user
    raise InvalidLink


def _redeem(session: Session, token: OneTimeToken) -> None:
    if not token.redeem(session):
        raise InvalidLink
