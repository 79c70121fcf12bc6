"""The signing key file: Ed25519 keys in PEM format, newest first.

The first key signs, and the others still verify tokens they signed. `Retired:` in the text before
a key (RFC 7468, section 2) gives the time at which the key above replaces it. All of this is in a
single file, so that copying the file sets up another machine.
"""

import base64
import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

VERIFYING_SECONDS: Final = 3600 + 60
"""Seconds for which a retired key verifies: a token's lifetime, and a minute of clock skew."""

MAX_KEYS: Final = 100
"""Maximum number of keys, as the contract declares for the JWK Set."""

_BLOCK = re.compile(
    rb"(.*?)(^-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \3-----\r?\n?)", re.DOTALL | re.MULTILINE
)
_MARK = re.compile(rb"^Retired:[ \t]*([^\r\n]*?)[ \t]*\r?\n", re.MULTILINE)
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"

Signature: TypeAlias = tuple[int, ...]
"""Identifies a version of the file."""
Jwk: TypeAlias = dict[str, str]


class SigningKeyError(Exception):
    """The key file is missing or unusable; `str` says what to do."""


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A key pair and its id, the JWK thumbprint of its public half (RFC 7638, RFC 8037)."""

    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    id: str
    retired: float | None
    """Unix time at which the key stops signing, possibly in the future."""

    @property
    def verifies(self) -> bool:
        """Whether a token signed with this key may still be valid."""
        return self.retired is None or time.time() < self.retired + VERIFYING_SECONDS

    @property
    def jwk(self) -> Jwk:
        """The public key as a JSON Web Key (RFC 7517, RFC 8037)."""
        named = {"kid": self.id, "use": "sig", "alg": "EdDSA"}
        return {"kty": "OKP", "crv": "Ed25519", "x": _x(self.public), **named}


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """A key in the file, with the text before it."""

    text: bytes
    pem: bytes
    key: SigningKey

    def marked(self, moment: float) -> bytes:
        """Return the entry marked as retired from a time on."""
        instant = datetime.fromtimestamp(moment, UTC).strftime(_INSTANT)
        return _MARK.sub(b"", self.text) + f"Retired: {instant}\n".encode() + self.pem


def read(path: Path) -> tuple[Signature, bytes]:
    """Read the file, and return its signature and content.

    Raises:
        SigningKeyError: the file is missing or unreadable.
    """
    with explained(), path.open("rb") as file:
        return signature(os.fstat(file.fileno())), file.read()


def require_private(path: Path) -> None:
    """Make sure that only the file's owner and group can read or change it.

    Raises:
        SigningKeyError: others can read or write the file, or it is missing.
    """
    with explained():
        mode = path.stat().st_mode
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise SigningKeyError(
            f"SIGNING_KEY_FILE has the mode {stat.S_IMODE(mode):03o}, so others can read or change"
            " it: run chmod 600"
        )


def signature(status: os.stat_result) -> Signature:
    """Return a value that changes whenever the file is replaced, written to or made readable."""
    return (
        *(status.st_dev, status.st_ino, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )


@contextlib.contextmanager
def explained(done: str = "read") -> Iterator[None]:
    """Convert file system errors into errors of the setting."""
    try:
        yield
    except OSError as error:
        reason = f"SIGNING_KEY_FILE cannot be {done}: {error.strerror}"
        raise SigningKeyError(reason) from None


def parse(content: bytes) -> list[Entry]:
    """Parse the keys of a file.

    Raises:
        SigningKeyError: the file has no keys or too many, or contains an invalid key.
    """
    entries = [_entry(text, pem) for text, pem, _ in _BLOCK.findall(content)]
    whole = len(entries) == content.count(b"-----BEGIN ") == content.count(b"-----END ")
    if not entries or not whole:
        raise SigningKeyError("SIGNING_KEY_FILE contains no unencrypted PEM private key")
    if len(entries) > MAX_KEYS:
        raise SigningKeyError(f"SIGNING_KEY_FILE contains more than {MAX_KEYS} keys")
    if len({entry.key.id for entry in entries}) < len(entries):
        raise SigningKeyError("SIGNING_KEY_FILE contains a key twice")
    if entries[0].key.retired is not None:
        raise SigningKeyError("SIGNING_KEY_FILE must start with a key that is not retired")
    return entries


def _entry(text: bytes, pem: bytes) -> Entry:
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningKeyError("SIGNING_KEY_FILE contains no unencrypted PEM private key") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningKeyError("SIGNING_KEY_FILE must contain Ed25519 keys (RFC 8410)")
    public = private.public_key()
    return Entry(text, pem, SigningKey(private, public, _thumbprint(public), _retired(text)))


def _retired(text: bytes) -> float | None:
    marks = _MARK.findall(text)
    if not marks:
        return None
    try:
        [instant] = marks
        return datetime.strptime(instant.decode(), _INSTANT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        reason = "has a line Retired: without one time such as 2026-11-25T10:00:00Z"
        raise SigningKeyError(f"SIGNING_KEY_FILE {reason}") from None


def _x(public: Ed25519PublicKey) -> str:
    return base64.urlsafe_b64encode(public.public_bytes_raw()).rstrip(b"=").decode()


def _thumbprint(public: Ed25519PublicKey) -> str:
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{_x(public)}"}}'
    digest = hashlib.sha256(members.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
