"""Stored responses to requests with an idempotency key, replayed when a request is repeated."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import starmap
from typing import NamedTuple

from sqlalchemy import (
    JSON,
    Delete,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.storage.base import ERASED, Base, UTCDateTime, kept, utcnow
from models.storage.constants import constant, read_rows, write_rows


class KeptAnswer(NamedTuple):
    """A stored response. `fingerprint` is the SHA-256 hash that identifies its request.

    `owner_id` is the account that the response is about, which may differ from the account of the
    caller.
    """

    fingerprint: bytes
    status: int
    headers: list[list[str]]
    body: bytes
    owner_id: int | None


class IdempotencyRecord(Base):
    """The stored response to a user's request with an idempotency key.

    It is stored in the request's own transaction, so it exists if and only if that commits.
    """

    __tablename__ = "idempotency_records"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, info=ERASED)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id"), info=kept("the key must stay used; what it answered is removed")
    )
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[list[list[str]]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=utcnow)

    __table_args__ = (Index(None, "created_at"), Index(None, "owner_id"))

    @classmethod
    def find(cls, session: Session, user_id: int, key: str) -> Callable[[], KeptAnswer | None]:
        """Look up the stored response to a user's request with this key.

        Return a function that waits for the response, and returns it or `None`.
        """
        values = {"user_id": user_id, "key": key}
        rows = read_rows(session.connection(), _FIND, values)
        return lambda: next(starmap(KeptAnswer, rows), None)

    @classmethod
    def store(cls, session: Session, user_id: int, key: str, answer: KeptAnswer) -> None:
        """Store a response. It is kept only if the transaction commits."""
        values = answer._asdict() | {"user_id": user_id, "key": key, "created_at": utcnow()}
        write_rows(session.connection(), _STORE, [values])

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove the stored responses about a user from the records of other accounts.

        The keys stay used, so that no request is performed twice. The empty fingerprint matches no
        request.
        """
        told = update(cls).where(cls.owner_id == user_id)
        session.execute(told.values(owner_id=None, fingerprint=b"", headers=[], body=b""))

    @classmethod
    def purge(cls, keep: timedelta) -> Delete:
        """Return the statement that deletes all records older than `keep`."""
        return delete(cls).where(cls.created_at < utcnow() - keep)


_FIND = constant(
    select(*(getattr(IdempotencyRecord, name) for name in KeptAnswer._fields)).where(
        IdempotencyRecord.user_id == bindparam("user_id"),
        IdempotencyRecord.key == bindparam("key"),
    )
)
_STORE = constant(insert(IdempotencyRecord))
