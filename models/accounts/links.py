"""Links in messages: verifying an email address, changing it, and setting a password."""

from typing import NotRequired, TypedDict

from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.access.secret_box import SecretBox
from models.accounts.account import hash_new_password, require_code, require_password
from models.actor import Actor
from models.errors import InvalidLink
from models.identity.audit_event import AuditAction, AuditEvent, RequestOrigin
from models.identity.email_address import EmailAddress
from models.identity.known_address import KnownAddress
from models.identity.one_time_token import OneTimeToken, Purpose
from models.identity.password import Passwords
from models.identity.user import User
from models.messages.message import Message


class EmailChange(TypedDict):
    """A request for a new email address, with the current password and an optional code."""

    email: str
    current_password: str
    code: NotRequired[str]


def request_verification(session: Session, user: User) -> None:
    """Send a link to verify an account's email address, unless it is already verified."""
    if not user.email_verified:
        Message.enqueue(session, "verify_email", user.id)


def request_change(
    session: Session,
    user: User,
    request: EmailChange,
    *,
    by: Actor,
    passwords: Passwords,
    seal: SecretBox,
    origin: RequestOrigin,
    local_email: bool = False,
) -> None:
    """Send a link to a new address that changes the account's email address to it.

    This function does not check whether another account has the address, so the response cannot
    reveal it. With `local_email`, the domain of the address may be below `local`.

    Raises:
        ProofNeeded, WrongPassword, WrongCode: The current password or the code is missing or
            incorrect.
        InvalidEmail: The new address is not valid.
        AccessEnded: The actor's tokens ended after the request was authenticated.
    """
    email, current = request["email"], request["current_password"]
    require_password(session, user, current, passwords, origin, "email.change-request")
    email = EmailAddress.parse(email, local=local_email).given
    require_code(session, user, request.get("code"), seal, origin, "email.change-request")
    # Hashing is slow, so the account is locked after it. An erasure then finds the message.
    User.locked(session, by).require_current_token(by)
    Message.enqueue(session, "change_email", user.id, email=email, token_version=user.token_version)
    AuditEvent.record(session, "email.change-request", origin, user_id=user.id)


def confirm_email(
    session: Session, secret: str, current: str, passwords: Passwords, origin: RequestOrigin
) -> None:
    """Verify or change an email address with the secret of a link sent to that address.

    The link proves control of the mailbox, and the password proves ownership of the account.
    Without the password, someone who opens the link of an account that a stranger registered with
    their address would confirm it for the stranger ("Pre-hijacked accounts", Sudhodanan and Paverd,
    2022). Because the same person has proved both, verifying an address ends no existing tokens.
    Changing the address ends all of the account's tokens. The old address receives a notice if it
    was verified; otherwise a stranger could flood its mailbox with notices.

    Raises:
        InvalidLink: The link is unknown, already used or expired.
        WrongPassword: The link is valid, but the password is incorrect.
        EmailTaken: Another account has taken the address since the link was sent.
    """
    token, user = _find(session, secret, "verify_email", "change_email")
    action: AuditAction = "email.verify" if token.purpose == "verify_email" else "email.change"
    require_password(session, user, current, passwords, origin, action)
    if token.purpose == "verify_email":
        _redeem(session, token)
        _note_address(session, user, origin)
        user.verify_email(session)
        AuditEvent.record(session, "email.verify", origin, user_id=user.id)
        return
    email, before = token.email or user.email, user.email
    was_verified = user.email_verified
    _redeem(session, token)
    _note_address(session, user, origin)
    user.change(session, email=email)
    AuditEvent.record(session, "email.change", origin, user_id=user.id)
    if was_verified:
        Message.enqueue(session, "email_changed", user.id, email=before)


def request_reset(session: Session, email: str, origin: RequestOrigin) -> None:
    """Send a link to set a new password, if an account has this address.

    The account is looked up later, when the message is sent, so the response cannot reveal whether
    it exists.
    """
    key = EmailAddress.normal_form(email)
    Message.enqueue(session, "set_password", None, email=key, origin=origin)


def reset_password(
    session: Session, secret: str, password: str, passwords: Passwords, origin: RequestOrigin
) -> None:
    """Set an account's password with the secret of a link, and end all of its tokens.

    Using the link verifies the email address. If the address was not verified before, a stranger
    may have registered the account. In that case, the second factor is removed, because it would
    lock out the owner of the address permanently.

    Raises:
        InvalidLink: The link is unknown, already used or expired.
        WeakPassword: The link is valid, but the password is too weak.
    """
    token, user = _find(session, secret, "set_password")
    password_hash = hash_new_password(user, password, passwords)
    _redeem(session, token)
    if not user.email_verified:
        if SecondFactor.is_active(session, user.id):
            AuditEvent.record(session, "second-factor.disable", origin, user_id=user.id)
        SecondFactor.forget(session, user.id)
    _note_address(session, user, origin)
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


def _note_address(session: Session, user: User, origin: RequestOrigin) -> None:
    """Record the network address from which a link was used.

    If the email address is not verified yet, earlier network addresses are deleted, because a
    stranger may have registered the account.
    """
    if not user.email_verified:
        KnownAddress.forget(session, user.id)
    KnownAddress.note(session, user, origin)


def _redeem(session: Session, token: OneTimeToken) -> None:
    if not token.redeem(session):
        raise InvalidLink
