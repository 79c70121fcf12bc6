"""Records of stored pictures and of their uses, so that unused pictures are deleted.

A picture is recorded before its files are written, in a transaction of its own. If the request
fails after that, or its account is erased later, the picture is unused, and its files are deleted.
"""

from datetime import datetime, timedelta
from functools import partial
from typing import IO, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    bindparam,
    delete,
    exists,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.files.picture import Picture
from models.files.store import FileStore
from models.set_aside import SetAside
from models.storage.base import ERASED, Base, BigId, UTCDateTime, utcnow
from models.storage.database import Database

_UNUSED_FOR: Final = timedelta(hours=1)
"""Time after which an unused picture is deleted. It is longer than any request takes."""
_BATCH: Final = 100
# This is plain SQL because SQLAlchemy has no ON CONFLICT construct common to both databases.
_NOTE = text(
    "INSERT INTO stored_pictures (digest, width, height, noted_at)"
    " VALUES (:digest, :width, :height, :noted_at)"
    " ON CONFLICT (digest) DO UPDATE SET noted_at = excluded.noted_at"
).bindparams(bindparam("noted_at", type_=UTCDateTime))


class StoredPicture(Base):
    """A picture whose files are in the store, or are about to be."""

    __tablename__ = "stored_pictures"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    noted_at: Mapped[datetime] = mapped_column(UTCDateTime)

    @classmethod
    def _unused(cls) -> ColumnElement[bool]:
        used = exists().where(PictureUse.digest == cls.digest)
        return (cls.noted_at < utcnow() - _UNUSED_FOR) & ~used


class PictureUse(Base):
    """The use of a picture by an account, or by a product at a position."""

    __tablename__ = "picture_uses"

    id: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey(StoredPicture.digest))
    user_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("users.id"), unique=True, info=ERASED
    )
    product_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("products.id"))
    position: Mapped[int | None] = mapped_column(Integer)

    __table_args__ = (Index(None, "digest"), Index(None, "product_id", "position", unique=True))

    @classmethod
    def by_user(cls, session: Session, user_id: int, picture: Picture | None) -> None:
        """Record the picture that an account uses, which replaces its earlier one."""
        session.execute(delete(cls).where(cls.user_id == user_id))
        if picture is not None:
            session.add(cls(digest=picture.digest, user_id=user_id))

    @classmethod
    def by_product(
        cls, session: Session, product_id: int, position: int, picture: Picture | None
    ) -> None:
        """Record the picture that a product uses at a position."""
        session.execute(delete(cls).where(cls.product_id == product_id, cls.position == position))
        if picture is not None:
            session.add(cls(digest=picture.digest, product_id=product_id, position=position))


class Pictures:
    """The pictures in a store. Thread-safe."""

    def __init__(self, database: Database, store: FileStore) -> None:
        self._database = database
        self.store = store

    def receive(self, file: IO[bytes]) -> Picture:
        """Decode and store a picture that nobody uses yet.

        Raises:
            InvalidPicture: As in `draw`.
            StorageUnavailable, DatabaseUnavailable: The store or the database failed.
        """
        from models.files.picture_decoding import draw  # noqa: PLC0415 - it takes 3 MB, and few processes decode pictures.

        picture, files = draw(file)
        values = {
            "digest": picture.digest,
            "width": picture.width,
            "height": picture.height,
            "noted_at": utcnow(),
        }
        self._database.transact(lambda session: session.execute(_NOTE, values))
        for path, content in files.items():
            self.store.put(path, content)
        return picture

    def sweep(self, aside: SetAside[str]) -> bool:
        """Delete some unused pictures, and return whether more may be left.

        Pictures that cannot be deleted are set aside.

        Raises:
            DatabaseUnavailable: The database failed.
            Exception: As in `SetAside.attempt`.
        """
        query = select(StoredPicture.digest, StoredPicture.width, StoredPicture.height)
        unused = StoredPicture._unused()  # noqa: SLF001 - of this module.
        query = query.where(unused, StoredPicture.digest.not_in(aside.keys)).limit(_BATCH)
        found = self._database.read(lambda reader: reader.execute(query).all(), single=True)
        for row in found:
            aside.attempt(row.digest, partial(self._delete, Picture(*row)))
        return len(found) == _BATCH

    def _delete(self, picture: Picture) -> None:
        unused = StoredPicture._unused() & (StoredPicture.digest == picture.digest)  # noqa: SLF001 - of this module.

        def work(session: Session) -> None:
            # The row stays locked until the files are gone, so a request that stores the same
            # picture waits, and then writes the files again.
            gone = session.connection().execute(delete(StoredPicture).where(unused))
            if gone.rowcount:
                for path in picture.paths:
                    self.store.delete(path)

        self._database.transact(work)
