"""The format of API keys. Only the hash of a key is stored.

The format follows GitHub's tokens. The prefix lets secret scanners find leaked keys. The checksum
detects a mistyped or truncated key without a database query.
"""

import hashlib
import re
import secrets
import zlib

PREFIX = "concord_"

_BYTES = 32
_FORM = re.compile(rf"({PREFIX}[A-Za-z0-9_-]{{43}})_([0-9a-f]{{8}})", re.ASCII)


def new_api_key() -> str:
    """Return a new key with 256 random bits."""
    text = PREFIX + secrets.token_urlsafe(_BYTES)
    return f"{text}_{_checksum(text)}"


def hash_api_key(key: str) -> bytes | None:
    """Return the SHA-256 hash of a key, or `None` if its format or checksum is invalid."""
    form = _FORM.fullmatch(key)
    if form is None or form[2] != _checksum(form[1]):
        return None
    return hashlib.sha256(key.encode()).digest()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
