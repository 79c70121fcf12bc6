"""The caller's second factor: an authenticator app, and the codes for when it is lost."""

import segno
from sqlalchemy.orm import Session

from api.security import Caller
from models.account import require_password
from models.audit_event import AuditEvent, Origin
from models.password import Passwords
from models.seal import Seal
from models.second_factor import SecondFactor, SecondFactorState
from models.session import SessionRules
from models.token import Token
from models.user import User

_PIXELS = 4
"""The side of one square of a QR code."""


def get_second_factor(session: Session, caller: Caller) -> SecondFactorState:
    """Read whether signing in takes a code, and how many recovery codes are left."""
    return SecondFactor.state(session, caller.user_id)


def enrol_second_factor(
    session: Session,
    caller: Caller,
    body: dict[str, str],
    passwords: Passwords,
    seal: Seal,
    origin: Origin,
) -> dict[str, str]:
    """Begin with an authenticator app."""
    user, current = _owner(session, caller), body["current_password"]
    require_password(session, user, current, passwords, origin, "second-factor.enrol")
    secret, uri = SecondFactor.enrol(session, seal, user)
    AuditEvent.record(session, "second-factor.enrol", origin, user_id=user.id)
    return {"secret": secret, "otpauth_uri": uri, "qr_code": _qr_code(uri)}


def confirm_second_factor(
    session: Session, caller: Caller, body: dict[str, str], seal: Seal, origin: Origin
) -> dict[str, list[str]]:
    """Make the app count, once it has shown the right code."""
    user = _owner(session, caller)
    codes = SecondFactor.confirm(session, seal, user, body["code"], origin)
    return {"recovery_codes": codes}


def replace_recovery_codes(
    session: Session,
    caller: Caller,
    body: dict[str, str],
    passwords: Passwords,
    seal: Seal,
    origin: Origin,
) -> dict[str, list[str]]:
    """Make new recovery codes."""
    user, current = _owner(session, caller), body["current_password"]
    require_password(session, user, current, passwords, origin, "second-factor.recovery-codes")
    codes = SecondFactor.replace_recovery_codes(session, seal, user, body["code"], origin)
    return {"recovery_codes": codes}


def disable_second_factor(
    session: Session,
    caller: Caller,
    body: dict[str, str],
    passwords: Passwords,
    seal: Seal,
    session_rules: SessionRules,
    origin: Origin,
) -> None:
    """Sign in without a code from now on."""
    user, current = _owner(session, caller), body["current_password"]
    require_password(session, user, current, passwords, origin, "second-factor.disable")
    SecondFactor.disable(session, seal, user, body["code"], origin)
    # Where administrators need a second factor, the session that goes on is a user's from now on.
    scopes = session_rules.scopes(session, user)
    Token.visible_to(session, caller, caller.token_id).narrow(scopes)


def _owner(session: Session, caller: Caller) -> User:
    user = User.of(session, caller)
    # The token in hand goes on when all others are ended, and must not have been one of them.
    user.require_standing(caller)
    return user


def _qr_code(text: str) -> str:
    """Draw a text for the camera of a telephone: a PNG image as a data URI (RFC 2397)."""
    return segno.make_qr(text, error="m", boost_error=False).png_data_uri(scale=_PIXELS)
