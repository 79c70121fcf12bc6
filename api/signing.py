"""The key that signs: an Ed25519 key in a PEM file, and the secrets that are derived from it."""

import base64
import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class SigningKeyError(Exception):
    """The file holds no key that the service can sign with; `str` says what to do."""


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A key pair and its id, the JWK thumbprint of its public half (RFC 7638, RFC 8037)."""

    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    id: str

    def derive(self, purpose: str) -> bytes:
        """Return 32 secret bytes for another purpose; every process with the key has the same."""
        secret = self.private.private_bytes_raw()
        return HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(secret)


def load_signing_key(path: Path, *, create: bool) -> SigningKey:
    """Read the key; with `create`, make one first where there is none.

    Raises:
        SigningKeyError: the file is missing, unreadable or holds another kind of key.
    """
    if create and not path.exists():
        _create(path)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        reason = f"SIGNING_KEY_FILE cannot be read: {error.strerror}"
        raise SigningKeyError(reason) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningKeyError("SIGNING_KEY_FILE holds no unencrypted PEM private key") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningKeyError("SIGNING_KEY_FILE must hold an Ed25519 key (RFC 8410)")
    public = private.public_key()
    return SigningKey(private, public, _thumbprint(public))


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    # A link appears whole or not at all: of two processes that start together one wins, and both
    # read the winner's key.
    with contextlib.suppress(FileExistsError):
        os.link(name, path)
    Path(name).unlink()


def _thumbprint(public: Ed25519PublicKey) -> str:
    x = base64.urlsafe_b64encode(public.public_bytes_raw()).rstrip(b"=").decode()
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    digest = hashlib.sha256(members.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
