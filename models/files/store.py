"""The file store: a folder, or a bucket of S3 or a compatible service.

A file is written to a temporary name and then moved, so nobody reads a partial file.
"""

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from models.errors import NotFound, StorageUnavailable
from models.files.store_faults import cause_of

if TYPE_CHECKING:
    # Functions import the library, because it takes 4 MB and some processes use no files.
    from obstore import HTTP_METHOD
    from obstore.store import ObjectStore, S3Config

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE: Final = timedelta(seconds=10)
"""Time limit for one operation of a remote store, with its retries."""
_SIGNED_FOR: Final = timedelta(minutes=5)
"""Lifetime of a signed URL. Temporary credentials, which end it too, are renewed that early."""
_ATTRIBUTES: Final = {
    "Content-Type": "image/webp",
    "Content-Disposition": "inline",
    "Cache-Control": "public, max-age=31536000, immutable",
}
"""Headers that a bucket sends with a file. Buckets do not send others, such as `nosniff`."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the store."""

    size: int
    modified: datetime
    _store: "ObjectStore"
    _path: str
    _is_presigned: bool

    @property
    def tag(self) -> str:
        """The file's path, which identifies its content."""
        return self._path

    def read(self, start: int, length: int) -> bytes:
        """Return some bytes of the file.

        Raises:
            NotFound: The file has been deleted.
            StorageUnavailable: The store failed.
        """
        return bytes(_run(self._store.get_range, self._path, start=start, length=length))

    def location(self, method: str) -> str | None:
        """Return a signed URL for GET or HEAD; None if the service sends the file.

        Raises:
            StorageUnavailable: There are no credentials to sign it with.
        """
        from obstore import sign  # noqa: PLC0415 - as above.
        from obstore.store import S3Store  # noqa: PLC0415 - as above.

        if not self._is_presigned or not isinstance(self._store, S3Store):
            return None
        signed: HTTP_METHOD = "HEAD" if method == "HEAD" else "GET"
        return _run(sign, self._store, signed, self._path, expires_in=_SIGNED_FOR)


class FileStore:
    """Files by path. Thread-safe, and nothing is opened before the first use."""

    def __init__(self, url: str, *, presigned: bool = False) -> None:
        """Use the store that a setting such as `file:var/files` or `s3://bucket` names.

        With `presigned`, clients get signed URLs for the files of a bucket.
        """
        self._url = url
        self._is_presigned = presigned
        self._opened: ObjectStore | None = None

    @property
    def _store(self) -> "ObjectStore":
        if self._opened is None:
            self._opened = _run(_open, self._url)
        return self._opened

    def put(self, path: str, content: bytes) -> None:
        """Write a file, even if it exists.

        Raises:
            StorageUnavailable: The store failed, and the file is missing or unchanged.
        """
        attributes = _ATTRIBUTES if urlsplit(self._url).scheme == "s3" else None
        try:
            _run(self._store.put, path, content, attributes=attributes)
        except NotFound as error:
            raise StorageUnavailable from error  # There is no such bucket.

    def find(self, path: str) -> StoredFile:
        """Return the file at a path.

        Raises:
            NotFound: There is no such file.
            StorageUnavailable: The store failed.
        """
        found = _run(self._store.head, path)
        modified = found["last_modified"]
        return StoredFile(found["size"], modified, self._store, path, self._is_presigned)

    def delete(self, path: str) -> None:
        """Delete a file, if it exists.

        Raises:
            StorageUnavailable: The store failed.
        """
        with suppress(NotFound):
            _run(self._store.delete, path)

    def fault(self) -> str | None:
        """Write, read and delete a small file; return why that failed, or None.

        The cause is one line for operators.
        """
        trial, done = f"trial-{uuid.uuid4().hex}", "written"
        try:
            store = _open(self._url)
            store.put(trial, b"1")
            done = "read"
            store.get_range(trial, start=0, length=1)
            done = "deleted"
            store.delete(trial)
        except _errors() as error:
            return f"a file cannot be {done}: {cause_of(error)}"
        return None


def _open(url: str) -> "ObjectStore":
    from obstore.store import LocalStore, S3Store  # noqa: PLC0415 - as above.

    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)).absolute(), mkdir=True)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    endpoint = options.get("endpoint")
    config: S3Config = {"region": options.get("region", "us-east-1")}
    if endpoint is not None:
        config["endpoint"] = endpoint
    return S3Store(
        parts.netloc,
        config=config,
        prefix=parts.path.strip("/") or None,
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http:"),
            "timeout": _PATIENCE,
        },
        retry_config={"max_retries": 2, "retry_timeout": _PATIENCE},
    )


def _run(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return work(*args, **kwargs)
    except FileNotFoundError:
        raise NotFound from None
    except _errors() as error:
        raise StorageUnavailable from error


def _errors() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError  # noqa: PLC0415 - as above.

    return BaseError, OSError
