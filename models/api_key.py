"""The text of API keys: recognisable, with a checksum, and kept as a hash only.

The form is that of GitHub's tokens: a prefix that scanners of leaked secrets can look for, and a
checksum by which a mistyped or cut key is told from a whole one without asking the database.
"""

import hashlib
import re
import secrets
import zlib

PREFIX = "concord_"

_BYTES = 32
_FORM = re.compile(rf"({PREFIX}[A-Za-z0-9_-]{{43}})_([0-9a-f]{{8}})", re.ASCII)


def new_api_key() -> str:
    """Make a key of 256 random bits."""
    text = PREFIX + secrets.token_urlsafe(_BYTES)
    return f"{text}_{_checksum(text)}"


def hash_api_key(key: str) -> bytes | None:
    """Give the hash under which a key is kept; `None` for what cannot be a key."""
    form = _FORM.fullmatch(key)
    if form is None or form[2] != _checksum(form[1]):
        return None
    return hashlib.sha256(key.encode()).digest()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
