"""Creation and rotation of the key file, while other processes read it."""

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from api.credentials.key_file import VERIFYING_SECONDS, explained, parse, read
from models.folders import make_private_folder


def make_key_file(path: Path) -> None:
    """Create a file with one key, unless another process has just created it."""
    make_private_folder(path.parent)
    name = _written(path.parent, _generate())
    # Linking is atomic: if two processes start together, one creates the file and both read it.
    with contextlib.suppress(FileExistsError):
        os.link(name, path)
    name.unlink()


def rotate_keys(path: Path, *, delay: float = 0, compromised: bool = False) -> str:
    """Add a new key at the top, which signs in `delay` seconds, and return its id.

    Retired keys that no longer verify are removed, except the last one, from which secrets are
    derived. With `compromised`, all older keys stop verifying at once.

    Raises:
        SigningKeyError: the file is missing, has invalid content or cannot be replaced.
    """
    with explained():
        path = path.resolve(strict=True)
    with explained("replaced"), _locked(path) as status:
        _, content = read(path)
        *others, root = parse(content)
        now = time.time()
        parts = [_generate()]
        for entry in (*(each for each in others if each.key.verifies and not compromised), root):
            if compromised:
                parts.append(entry.marked(now - VERIFYING_SECONDS))
            elif entry.key.retired is None:
                parts.append(entry.marked(now + delay))
            else:
                parts.append(entry.text + entry.pem)
        content = b"".join(parts)
        # Content that the service could not read must never replace the file.
        made = parse(content)[0].key.id
        _written(path.parent, content, status).replace(path)
        _sync(path.parent)
    return made


def _generate() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _written(folder: Path, content: bytes, like: os.stat_result | None = None) -> Path:
    """Write a new file with the owner and mode of `like`, or readable only by its owner."""
    descriptor, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like is not None:
                # Rotation may run as another user than the service.
                os.fchown(descriptor, like.st_uid, like.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(like.st_mode) & 0o640)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def _sync(folder: Path) -> None:
    """Wait until the folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[os.stat_result]:
    """Lock the file against replacement, after waiting for other processes that hold the lock."""
    while True:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            status = os.fstat(file.fileno())
            # If another process has replaced the file, the lock is on the old one.
            if os.path.samestat(status, path.stat()):
                yield status
                return
