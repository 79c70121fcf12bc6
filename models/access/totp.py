"""Time-based one-time codes (TOTP, RFC 6238) for authenticator apps."""

import base64
import hmac
import secrets
import unicodedata
from datetime import datetime
from typing import NamedTuple

import pyotp

_SECRET_BYTES = 20  # As recommended by RFC 4226 (section 4, R6).
_DIGITS = 6
_STEP_SECONDS = 30
_WINDOW = (-1, 0, 1)
"""Valid time steps relative to the current one. Neighbours are valid because clocks differ and
people type slowly."""


class Enrolment(NamedTuple):
    """The settings for an authenticator app: the secret, and an `otpauth` URI that contains it."""

    secret: str
    otpauth_uri: str


def new_secret() -> bytes:
    """Return a new secret of 160 random bits."""
    return secrets.token_bytes(_SECRET_BYTES)


def enrolment(secret: bytes, email: str, issuer: str) -> Enrolment:
    """Return the settings of a secret for an authenticator app.

    Apps identify an account by the issuer and the address, so services need different issuers.
    """
    # NFC bounds the URI's length, because a composed address has at most 254 bytes.
    label = unicodedata.normalize("NFC", email)
    totp = _totp(secret)
    return Enrolment(totp.secret, totp.provisioning_uri(name=label, issuer_name=issuer))


def step_of(secret: bytes, code: str, now: datetime) -> int | None:
    """Return the time step of a code, or `None` if the code is not valid at this moment.

    The code is compared with every valid step, in constant time.
    """
    totp = _totp(secret)
    present = int(now.timestamp()) // _STEP_SECONDS
    near = [present + away for away in _WINDOW]
    right = [step for step in near if hmac.compare_digest(totp.generate_otp(step), code)]
    return max(right, default=None)


def _totp(secret: bytes) -> pyotp.TOTP:
    """Return the code generator of a secret, with parameters that every app supports."""
    text = base64.b32encode(secret).decode()
    return pyotp.TOTP(text, digits=_DIGITS, interval=_STEP_SECONDS)
