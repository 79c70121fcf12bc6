"""The file store: a folder, and servers like S3 (M15)."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from models.errors import NotFound, StorageUnavailable
from models.files.store import FileStore
from models.storage.base import utcnow
from tests.servers.s3_server import CREDENTIALS, S3_SERVERS, moto_bucket

pytestmark = pytest.mark.mission("M15")


@pytest.fixture(scope="module", params=S3_SERVERS)
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    with S3_SERVERS[request.param]() as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def test_a_file_in_a_folder(tmp_path: Path) -> None:
    write_read_and_delete(FileStore(f"file:{tmp_path}"))


def test_a_file_in_a_bucket(bucket: str) -> None:
    write_read_and_delete(FileStore(bucket))


def write_read_and_delete(store: FileStore) -> None:
    store.put("a/b.webp", b"before")
    store.put("a/b.webp", b"0123456789")
    file = store.find("a/b.webp")
    assert (file.size, file.read(2, 3), file.tag) == (10, b"234", "a/b.webp")
    assert utcnow() - file.modified < timedelta(minutes=1)
    assert file.location("GET") is None
    for _ in range(2):
        store.delete("a/b.webp")
    with pytest.raises(NotFound):
        store.find("a/b.webp")
    with pytest.raises(NotFound):
        file.read(0, 1)


def test_a_folder_has_no_file_but_those_written(tmp_path: Path) -> None:
    FileStore(f"file:{tmp_path}").put("a/b.webp", b"0123456789")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / "a/b.webp"]


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        FileStore(f"file:{file}/below").put("a", b"")


def test_a_bucket_that_cannot_be_used_is_unavailable(bucket: str) -> None:
    with pytest.raises(StorageUnavailable):
        FileStore(bucket.replace("//pictures", "//nowhere")).put("a", b"")


def test_a_server_that_is_gone_is_unavailable() -> None:
    with moto_bucket() as url:
        store = FileStore(url)
        store.put("a", b"1")
        file = store.find("a")
    for work in (lambda: store.put("a", b""), lambda: store.find("a"), lambda: file.read(0, 1)):
        with pytest.raises(StorageUnavailable):
            work()
