"""Secrets that the service has to read again, sealed so that the database alone gives none away."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Seal:
    """Seals with AES-256-GCM (NIST SP 800-38D). It may be shared by threads.

    A secret is sealed for its owner: put into another one's row it cannot be opened.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, *, owner: int) -> bytes:
        """Make what may be stored of a secret. It is another text each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, _named(owner))

    def open(self, sealed: bytes, *, owner: int) -> bytes | None:
        """Give the secret back.

        `None` if it was sealed with another key or for another owner, or was changed.
        """
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, text, _named(owner))
        except InvalidTag:
            return None


def _named(owner: int) -> bytes:
    return f"account {owner}".encode()
