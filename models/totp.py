"""Codes by time (TOTP, RFC 6238): what an authenticator app shows, and how long it is good."""

import base64
import hmac
import secrets
import unicodedata
from datetime import datetime
from typing import NamedTuple

import pyotp

_ISSUER = "Concord"
_SECRET_BYTES = 20  # As many as RFC 4226 (section 4, R6) recommends.
_DIGITS = 6
_STEP_SECONDS = 30
_WINDOW = (-1, 0, 1)
"""Steps from now whose codes are taken: clocks differ, and people type slowly."""


class Enrolment(NamedTuple):
    """What an authenticator app has to know: the secret, by itself and in a URI that says all."""

    secret: str
    otpauth_uri: str


def new_secret() -> bytes:
    """Make 160 random bits."""
    return secrets.token_bytes(_SECRET_BYTES)


def enrolment(secret: bytes, email: str) -> Enrolment:
    """Say what the app of an account's owner has to know."""
    # An address has at most 254 bytes in its composed form, which is what bounds the URI.
    label = unicodedata.normalize("NFC", email)
    totp = _totp(secret)
    return Enrolment(totp.secret, totp.provisioning_uri(name=label, issuer_name=_ISSUER))


def step_of(secret: bytes, code: str, now: datetime) -> int | None:
    """Say which step of time a code belongs to, if it is good at this moment.

    The code of every step is compared, in constant time.
    """
    totp = _totp(secret)
    present = int(now.timestamp()) // _STEP_SECONDS
    near = [present + away for away in _WINDOW]
    right = [step for step in near if hmac.compare_digest(totp.generate_otp(step), code)]
    return max(right, default=None)


def _totp(secret: bytes) -> pyotp.TOTP:
    """Give the generator of a secret's codes, with the parameters that every app knows."""
    text = base64.b32encode(secret).decode()
    return pyotp.TOTP(text, digits=_DIGITS, interval=_STEP_SECONDS)
