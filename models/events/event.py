"""Events: a record of each change to an account, a product, its stock or an order.

An event is written in the transaction of the change, so neither exists without the other. It has no
personal data, because copies of it leave the service and cannot be erased there.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Connection, Identity, Index, String, Uuid, insert, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.storage.base import Base, BigId, UTCDateTime
from models.storage.constants import constant, write_rows
from models.storage.identifiers import instant_of, new_id

Facts: TypeAlias = Mapping[str, object]
"""The JSON object that describes the subject of an event."""


class EventData(NamedTuple):
    """The data of an event, under the first part of the event's type. The others are `None`."""

    account: Facts | None = None
    product: Facts | None = None
    stock: Facts | None = None
    order: Facts | None = None


class NewEvent(NamedTuple):
    """An event to be recorded: its type, subject, the subject's new version, and its facts."""

    type: str
    subject: str
    version: int
    facts: Facts


class Event(Base):
    """A change to the resource `subject`. Events are immutable, except for `position`.

    `sequence` is assigned when the event is written. The transaction has then locked the subject's
    row, so the events of one subject are in the order of their changes. Other transactions may
    commit in a different order. `position` is assigned after the commit (`models.events.feed`).
    """

    __tablename__ = "events"

    sequence: Mapped[int] = mapped_column(BigId, Identity(always=True), primary_key=True)
    id: Mapped[UUID] = mapped_column(Uuid, unique=True)
    type: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(48))
    version: Mapped[int] = mapped_column()
    facts: Mapped[dict[str, object]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    position: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index(
            "uq_events_position",
            "position",
            unique=True,
            postgresql_where=text("position IS NOT NULL"),
            sqlite_where=text("position IS NOT NULL"),
        ),
        Index(
            "ix_events_unplaced",
            "sequence",
            postgresql_where=text("position IS NULL"),
            sqlite_where=text("position IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    @classmethod
    def record(cls, session: Session, event: NewEvent) -> None:
        """Record an event in the transaction of its change.

        The change must have been flushed, or its row locked, by then.
        """
        session.add(cls(**_values(event)))

    @classmethod
    def record_all(cls, connection: Connection, events: Iterable[NewEvent]) -> None:
        """Record several events with one statement, as in `record`."""
        write_rows(connection, _INSERT, [_values(event) for event in events])

    @property
    def data(self) -> EventData:
        """The facts, under the first part of the type."""
        return EventData(**{self.type.partition(".")[0]: self.facts})


def _values(event: NewEvent) -> dict[str, object]:
    identifier = new_id()
    return {**event._asdict(), "id": identifier, "created_at": instant_of(identifier)}


# The sequence numbers are not needed, so the INSERT does not return them.
_INSERT = constant(insert(Event).inline())
