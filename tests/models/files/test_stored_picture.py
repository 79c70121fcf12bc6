"""Stored pictures: files and rows agree after failures, removals and erasure (M15, TRUST 43)."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from models.accounts.account import erase_account
from models.files.picture import Picture
from models.files.store import FileStore
from models.files.stored_picture import Pictures, PictureUse, StoredPicture
from models.identity.audit_event import RequestOrigin
from models.identity.user import User
from models.set_aside import SetAside
from models.storage.base import utcnow
from models.storage.database import Database
from tests.factories import LIFECYCLE, ROOT, make_user
from tests.pictures import make_picture

pytestmark = pytest.mark.mission("M15")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def pictures(database: Database, folder: Path) -> Pictures:
    return Pictures(database, FileStore(f"file:{folder}"))


def receive(pictures: Pictures, colour: str = "red") -> Picture:
    return pictures.receive(io.BytesIO(make_picture(colour=colour)))


def sweep(pictures: Pictures) -> list[str]:
    """Delete unused pictures, and give the names of those that could not be deleted."""
    failed: list[str] = []
    pictures.sweep(SetAside(lambda digest, _error: failed.append(digest)))
    return failed


def stored(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def age(database: Database) -> None:
    """Let two hours pass."""
    old = update(StoredPicture).values(noted_at=utcnow() - timedelta(hours=2))
    database.transact(lambda session: session.execute(old))


def wear(database: Database, user: User, picture: Picture | None) -> None:
    database.transact(lambda s: s.get_one(User, user.id).set_avatar(s, picture))


def rows(database: Database, model: type[StoredPicture | PictureUse]) -> int | None:
    return database.read(lambda reader: reader.scalar(select(func.count()).select_from(model)))


def test_an_upload_that_nobody_uses_is_deleted(
    database: Database, pictures: Pictures, folder: Path
) -> None:
    picture = receive(pictures)
    assert stored(folder) == set(picture.paths)
    sweep(pictures)
    assert stored(folder) == set(picture.paths)
    age(database)
    sweep(pictures)
    assert (stored(folder), rows(database, StoredPicture)) == (set(), 0)
    sweep(pictures)


def test_a_picture_is_kept_while_anyone_uses_it(
    database: Database, pictures: Pictures, folder: Path
) -> None:
    picture, (alice, bob) = receive(pictures), (make_user(database), make_user(database))
    for user in (alice, bob):
        wear(database, user, receive(pictures))
    wear(database, alice, None)
    age(database)
    sweep(pictures)
    assert stored(folder) == set(picture.paths)
    wear(database, bob, receive(pictures, "green"))
    age(database)
    sweep(pictures)
    assert len(stored(folder)) == 3
    assert not stored(folder) & set(picture.paths)


def test_a_picture_that_cannot_be_deleted_does_not_keep_others(
    database: Database, pictures: Pictures, folder: Path
) -> None:
    bad, good = receive(pictures), receive(pictures, "green")
    path = folder / bad.paths[0]
    path.unlink()
    (path / "in the way").mkdir(parents=True)
    age(database)
    assert sweep(pictures) == [bad.digest]
    assert not stored(folder) & set(good.paths)
    assert rows(database, StoredPicture) == 1


def test_a_picture_that_is_uploaded_again_is_kept(
    database: Database, pictures: Pictures, folder: Path
) -> None:
    receive(pictures)
    age(database)
    picture = receive(pictures)
    sweep(pictures)
    assert stored(folder) == set(picture.paths)


def test_erasing_an_account_deletes_its_avatar(
    database: Database, pictures: Pictures, folder: Path
) -> None:
    user = make_user(database)
    wear(database, user, receive(pictures))
    database.transact(
        lambda s: erase_account(
            s, LIFECYCLE, User.visible_to(s, ROOT, user.id), by=ROOT, origin=RequestOrigin()
        )
    )
    assert rows(database, PictureUse) == 0
    assert database.read(lambda r: r.scalar(select(User.avatar).where(User.id == user.id))) is None
    age(database)
    sweep(pictures)
    assert stored(folder) == set()
