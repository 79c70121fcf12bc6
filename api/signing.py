"""The keys that sign while the service runs, and the secrets that are derived from them."""

import logging
import threading
import time
from itertools import pairwise
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api import key_file
from api.key_file import Jwk, SigningKey, SigningKeyError
from api.key_rotation import make_key_file

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class KeyRing:
    """The keys of a file, which is read again once it has changed. Threads can share it.

    The last key is the root: secrets are derived from it, so that they outlive every rotation.
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
        """Read the keys; with `create`, make one first where there is none.

        Raises:
            SigningKeyError: the file is missing, unreadable or holds something else.
        """
        if create and not path.exists():
            make_key_file(path)
        return cls(path)

    @property
    def signing(self) -> SigningKey:
        """The key that signs now; that there is another one is seen within a second."""
        self._look(_LOOK_SECONDS)
        keys, now = self._keys, time.time()
        for key, older in pairwise(keys):
            if older.retired is None or older.retired <= now:
                return key
        return keys[-1]

    def find(self, kid: str) -> Ed25519PublicKey | None:
        """Return the key with this id, if what it signed is still to be believed."""
        self._look(_LOOK_SECONDS)
        if all(key.id != kid for key in self._keys):
            # Another process may sign already with a key that this one has not read.
            self._look(0)
        return next((key.public for key in self._keys if key.id == kid and key.verifies), None)

    def jwks(self) -> list[Jwk]:
        """Return all keys that verify, as a JWK Set has them (RFC 7517, section 5)."""
        self._look(_LOOK_SECONDS)
        return [key.jwk for key in self._keys if key.verifies]

    def derive(self, purpose: str) -> bytes:
        """Return 32 secret bytes for another purpose; every process with the root has the same."""
        secret = self._root.private.private_bytes_raw()
        return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(secret)

    def _look(self, seconds: float) -> None:
        """Read the file if it has changed, unless somebody looked less than `seconds` ago."""
        if time.monotonic() - self._looked_at < seconds:
            return
        with self._lock:
            self._looked_at = time.monotonic()
            try:
                self._renew()
            except SigningKeyError as error:
                # The keys that were good a moment ago still are.
                if str(error) != self._complaint:
                    _log.error("the signing keys stay as they are: %s", error)
                self._complaint = str(error)

    def _renew(self) -> None:
        with key_file.explained():
            status = self._path.stat()
        if key_file.signature(status) == self._signature:
            return
        self._signature, content = key_file.read(self._path)
        keys = [entry.key for entry in key_file.parse(content)]
        # What is encrypted or signed with a derived secret would be lost. A file that is being
        # copied lacks the root, too.
        if keys[-1].id != self._root.id:
            raise SigningKeyError("SIGNING_KEY_FILE ends with another key, which needs a restart")
        self._keys, self._complaint = keys, None
        _log.info("the signing keys were read again; the newest is %s", keys[0].id)
