"""The caller's second factor: an authenticator app, and recovery codes for when it is lost."""

import segno
from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.access.authenticator_app import SecondFactor, SecondFactorState
from models.access.secret_box import SecretBox
from models.accounts.account import require_password
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.password import Passwords
from models.identity.user import User
from models.storage.reader import Reader

_PIXELS = 4
"""Pixels per module of a QR code."""


def get_second_factor(reader: Reader, caller: Caller) -> SecondFactorState:
    """Return whether a second factor is enabled, and how many recovery codes are left."""
    return SecondFactor.state(reader, caller.user_id)


def enrol_second_factor(
    session: Session,
    caller: Caller,
    body: dict[str, str],
    passwords: Passwords,
    seal: SecretBox,
    issuer: str,
    origin: RequestOrigin,
) -> dict[str, str]:
    """Start to set up an authenticator app."""
    user, current = _owner(session, caller), body["current_password"]
    require_password(session, user, current, passwords, origin, "second-factor.enrol")
    secret, uri = SecondFactor.enrol(session, seal, user, issuer)
    AuditEvent.record(session, "second-factor.enrol", origin, user_id=user.id)
    return {"secret": secret, "otpauth_uri": uri, "qr_code": _qr_code(uri)}


def confirm_second_factor(
    session: Session, caller: Caller, body: dict[str, str], seal: SecretBox, origin: RequestOrigin
) -> dict[str, list[str]]:
    """Enable the second factor with the app's first code, and return recovery codes."""
    user = _owner(session, caller)
    codes = SecondFactor.confirm(session, seal, user, body["code"], origin)
    return {"recovery_codes": codes}


def replace_recovery_codes(
    session: Session,
    caller: Caller,
    body: dict[str, str],
    passwords: Passwords,
    seal: SecretBox,
    origin: RequestOrigin,
) -> dict[str, list[str]]:
    """Replace the recovery codes with new ones."""
    user, current = _owner(session, caller), body["current_password"]
    require_password(session, user, current, passwords, origin, "second-factor.recovery-codes")
    codes = SecondFactor.replace_recovery_codes(session, seal, user, body["code"], origin)
    return {"recovery_codes": codes}


def disable_second_factor(
    session: Session,
    caller: Caller,
    body: dict[str, str],
    passwords: Passwords,
    seal: SecretBox,
    origin: RequestOrigin,
) -> None:
    """Disable the second factor."""
    user, current = _owner(session, caller), body["current_password"]
    require_password(session, user, current, passwords, origin, "second-factor.disable")
    SecondFactor.disable(session, seal, user, body["code"], origin)


def _owner(session: Session, caller: Caller) -> User:
    user = User.of(session, caller)
    # The caller's token stays valid while all others are revoked, so it must itself be active.
    user.require_current_token(caller)
    return user


def _qr_code(text: str) -> str:
    """Return a text as a QR code: a PNG image in a data URI (RFC 2397)."""
    return segno.make_qr(text, error="m", boost_error=False).png_data_uri(scale=_PIXELS)
