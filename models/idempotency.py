"""Answers that are kept, so that a request that is sent again is answered and not done again."""

from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    bindparam,
    delete,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UTCDateTime, utcnow
from models.database import Database

_BATCH = 500


class KeptAnswer(NamedTuple):
    """An answer as it is kept; `fingerprint` tells its request from every other one (SHA-256)."""

    fingerprint: bytes
    status: int
    headers: list[list[str]]
    body: bytes


class IdempotencyRecord(Base):
    """The answer to the request that a user sent with a key of their own.

    It is written in the transaction that did what was asked, so that there is one if and only if
    that was done. `owner_id` is the account that the answer tells of, which need not be that of the
    user who asked.
    """

    __tablename__ = "idempotency_records"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[list[list[str]]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    __table_args__ = (Index(None, "created_at"), Index(None, "owner_id"))

    @classmethod
    def find(cls, session: Session, user_id: int, key: str) -> KeptAnswer | None:
        """Read what was answered to this user's request with this key, if there was one."""
        values = {"user_id": user_id, "key": key}
        row = session.connection().execute(_FIND, values).one_or_none()
        return None if row is None else KeptAnswer(*row)

    @classmethod
    def store(
        cls, session: Session, user_id: int, key: str, answer: KeptAnswer, *, owner_id: int | None
    ) -> None:
        """Keep the answer, if what the transaction did is kept."""
        values = answer._asdict() | {
            "user_id": user_id,
            "key": key,
            "owner_id": owner_id,
            "created_at": utcnow(),
        }
        session.connection().execute(_STORE, values)

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove all answers that a user was given, and what others were told of the user.

        The keys of the others stay used: what they asked for must not be done a second time. Such
        a key fits no request any more.
        """
        session.execute(delete(cls).where(cls.user_id == user_id))
        told = update(cls).where(cls.owner_id == user_id)
        session.execute(told.values(owner_id=None, fingerprint=b"", headers=[], body=b""))

    @classmethod
    def purge(cls, session: Session, before: datetime, limit: int) -> int:
        """Remove the oldest answers, made before an instant, and say how many: at most `limit`."""
        query = select(cls.user_id, cls.key).where(cls.created_at < before)
        # What another process is removing is passed over instead of waited for.
        batch = query.order_by(cls.created_at).limit(limit).with_for_update(skip_locked=True)
        rows = delete(cls).where(tuple_(cls.user_id, cls.key).in_(batch)).returning(cls.user_id)
        unsynchronised = rows.execution_options(synchronize_session=False)
        return len(session.execute(unsynchronised).all())


_FIND = select(
    *(getattr(IdempotencyRecord, name) for name in KeptAnswer._fields),
).where(
    IdempotencyRecord.user_id == bindparam("user_id"), IdempotencyRecord.key == bindparam("key")
)
_STORE = insert(IdempotencyRecord)


def purge_answers(database: Database, keep: timedelta) -> None:
    """Remove all answers older than `keep`, a few at a time, so that nobody waits for long.

    Raises:
        DatabaseUnavailable: what was removed so far stays so.
    """
    work = partial(IdempotencyRecord.purge, before=utcnow() - keep, limit=_BATCH)
    while database.transact(work, write=True) == _BATCH:
        pass
