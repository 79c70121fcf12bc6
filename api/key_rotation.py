"""How the file of the keys that sign is made, and how it gets a new key while others read it."""

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

from api.key_file import VERIFYING_SECONDS, explained, parse, read


def make_key_file(path: Path) -> None:
    """Make a file of one key, unless another process is faster."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = _written(path.parent, _generate())
    # A link appears whole or not at all: of two processes that start together one wins, and both
    # read the winner's key.
    with contextlib.suppress(FileExistsError):
        os.link(name, path)
    name.unlink()


def rotate_keys(path: Path, *, delay: float = 0, compromised: bool = False) -> str:
    """Put a new key first, which signs in `delay` seconds, and return its id.

    Retired keys that verify nothing any more are left out, but for the last one, from which secrets
    are derived. With `compromised` this is so of all older keys at once.

    Raises:
        SigningKeyError: the file is missing, holds something else or cannot be replaced.
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
        # What the service could not read must not get there.
        made = parse(content)[0].key.id
        _written(path.parent, content, status).replace(path)
        _sync(path.parent)
    return made


def _generate() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _written(folder: Path, content: bytes, like: os.stat_result | None = None) -> Path:
    """Write a new file for those who may read another one, by default its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like is not None:
                # Whoever rotates may be another user than the one that the service runs as.
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
    """Wait until the disk has the names of a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[os.stat_result]:
    """Keep others from replacing the file, after waiting for those who are about to."""
    while True:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            status = os.fstat(file.fileno())
            # Whoever held the lock has replaced the file that it is on.
            if os.path.samestat(status, path.stat()):
                yield status
                return
