"""Encryption of stored secrets, so that access to the database alone does not reveal them."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class SecretBox:
    """Encrypts secrets with AES-256-GCM (NIST SP 800-38D). An instance is thread-safe.

    Each secret is bound to its owner. If it is copied to another account's row, it cannot be
    decrypted.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, *, owner: int) -> bytes:
        """Encrypt a secret for storage. The random nonce makes each result different."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, _named(owner))

    def open(self, sealed: bytes, *, owner: int) -> bytes | None:
        """Decrypt a secret.

        Return `None` if it was encrypted with another key or for another owner, or was modified.
        """
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, text, _named(owner))
        except InvalidTag:
            return None


def _named(owner: int) -> bytes:
    return f"account {owner}".encode()
