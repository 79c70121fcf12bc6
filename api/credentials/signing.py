"""The signing keys of a running service, and the secrets derived from them."""

import logging
import threading
import time
from itertools import pairwise
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.credentials import key_file
from api.credentials.key_file import Jwk, SigningKey, SigningKeyError
from api.credentials.key_rotation import make_key_file

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class KeyRing:
    """The keys of a file, which is reloaded after a change. Thread-safe.

    The last key is the root: secrets are derived from it, so that they survive every rotation.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._signature, content = key_file.read(path)
        self._keys = [entry.key for entry in key_file.parse(content)]
        self._root = self._keys[-1]
        self._complaint: str | None = None

    @classmethod
    def load(cls, path: Path, *, create: bool) -> "KeyRing":
        """Load the keys; with `create`, create the file first if it does not exist.

        Raises:
            SigningKeyError: the file is missing, unreadable or invalid.
        """
        if create and not path.exists():
            make_key_file(path)
        return cls(path)

    @property
    def signing(self) -> SigningKey:
        """The key that signs now. A change to the file takes effect within a second."""
        self._look(_LOOK_SECONDS)
        keys, now = self._keys, time.time()
        for key, older in pairwise(keys):
            if older.retired is None or older.retired <= now:
                return key
        return keys[-1]

    def find(self, kid: str) -> Ed25519PublicKey | None:
        """Return the public key with this id, if tokens it signed may still be valid."""
        self._look(_LOOK_SECONDS)
        if all(key.id != kid for key in self._keys):
            # Another process may already sign with a key that this one has not loaded yet.
            self._look(0)
        return next((key.public for key in self._keys if key.id == kid and key.verifies), None)

    def jwks(self) -> list[Jwk]:
        """Return all keys that verify, as members of a JWK Set (RFC 7517, section 5)."""
        self._look(_LOOK_SECONDS)
        return [key.jwk for key in self._keys if key.verifies]

    def derive(self, purpose: str) -> bytes:
        """Derive a 32-byte secret for a purpose, the same in all processes with this root key."""
        secret = self._root.private.private_bytes_raw()
        return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(secret)

    def _look(self, seconds: float) -> None:
        """Reload the file if it has changed, unless it was checked less than `seconds` ago."""
        if time.monotonic() - self._looked_at < seconds:
            return
        with self._lock:
            self._looked_at = time.monotonic()
            try:
                self._renew()
            except SigningKeyError as error:
                # The loaded keys remain valid.
                if str(error) != self._complaint:
                    _log.error("signing keys not reloaded: %s", error)
                self._complaint = str(error)

    def _renew(self) -> None:
        with key_file.explained():
            status = self._path.stat()
        if key_file.signature(status) == self._signature:
            return
        self._signature, content = key_file.read(self._path)
        keys = [entry.key for entry in key_file.parse(content)]
        # Another root would invalidate everything encrypted or signed with a derived secret. A
        # file that is still being copied also lacks its root.
        if keys[-1].id != self._root.id:
            raise SigningKeyError("SIGNING_KEY_FILE ends with another key: restart to use it")
        self._keys, self._complaint = keys, None
        _log.info("signing keys reloaded; the newest is %s", keys[0].id)
