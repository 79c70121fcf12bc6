"""Signatures of what other services send: Stripe's scheme and Standard Webhooks.

Both sign the body with the time of the request, using HMAC-SHA256 and a shared secret. Several
signatures and several secrets may be valid at once, so that a secret can be replaced.
"""

import base64
import hmac
from collections.abc import Iterable, Mapping, Sequence
from time import time
from typing import Final

from api.contract.engine_errors import Unauthenticated

TOLERANCE: Final = 300
"""Seconds by which the time in a signature may differ from the current time."""
_PREFIX = "whsec_"


class InvalidSignature(Unauthenticated):
    """The signature is missing, incorrect or too old. The error does not reveal which."""

    detail = "The signature is missing, incorrect or too old."
    challenge = "Signature"


def check_stripe_signature(secrets: Sequence[str], header: str | None, body: bytes) -> None:
    """Check the header `Stripe-Signature` (https://docs.stripe.com/webhooks#verify-manually).

    Raises:
        InvalidSignature: No signature is one of the body with one of the secrets, or it is old.
    """
    items = [item.partition("=") for item in (header or "").split(",")]
    values: Mapping[str, str] = {name: value for name, _, value in items}
    sent = [value for name, _, value in items if name == "v1"]
    signed = f"{_fresh(values.get('t'))}.".encode() + body
    made = (hmac.digest(secret.encode(), signed, "sha256").hex() for secret in secrets)
    _require_match(sent, made)


def check_standard_signature(
    secrets: Sequence[str],
    identifier: str | None,
    timestamp: str | None,
    header: str | None,
    body: bytes,
) -> None:
    """Check the headers of Standard Webhooks (https://www.standardwebhooks.com).

    Raises:
        InvalidSignature: As in `check_stripe_signature`.
    """
    if not identifier:
        raise InvalidSignature
    sent = [value for name, _, value in _versions(header) if name == "v1"]
    signed = f"{identifier}.{_fresh(timestamp)}.".encode() + body
    made = (hmac.digest(decode_secret(secret), signed, "sha256") for secret in secrets)
    _require_match(sent, (base64.b64encode(digest).decode() for digest in made))


def decode_secret(secret: str) -> bytes:
    """Return the key in a secret of Standard Webhooks, which is in Base64 after `whsec_`.

    Raises:
        ValueError: The secret is not in Base64.
    """
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)


def _versions(header: str | None) -> list[tuple[str, str, str]]:
    return [item.partition(",") for item in (header or "").split(" ")]


def _fresh(timestamp: str | None) -> str:
    """Return the time of a signature as it was sent, if it is close to the current time."""
    if timestamp is None or not (timestamp.isascii() and timestamp.isdecimal()):
        raise InvalidSignature
    if abs(time() - int(timestamp[:20])) > TOLERANCE:
        raise InvalidSignature
    return timestamp


def _require_match(sent: Iterable[str], made: Iterable[str]) -> None:
    expected = [each.encode() for each in made]
    if not any(hmac.compare_digest(each.encode(), known) for each in sent for known in expected):
        raise InvalidSignature
