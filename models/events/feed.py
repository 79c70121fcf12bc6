"""The order of events, and reading them in this order without gaps.

Concurrent transactions do not commit in the order of their writes, so a reader who remembers the
last sequence number would miss events that become visible later. Committed events are therefore
placed: one process at a time appends those that are visible to the end of the feed. Everything
before a visible position is visible, so a reader misses nothing and sees nothing twice.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import partial
from itertools import takewhile
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from models.errors import EventsExpired
from models.events.event import Event
from models.storage.base import utcnow
from models.storage.constants import constant
from models.storage.database import Database
from models.storage.identifiers import first_id_from
from models.storage.reader import Reader

_LOCK = 0x6665656473  # "feeds" in ASCII
_BATCH = 500
_SCANNED = 1000
"""Maximum number of events that one request examines for its types."""

# Each process executes these statements four times a second.
_ANY_UNPLACED = constant(select(Event.sequence).where(Event.position.is_(None)).limit(1))
_NEWEST = constant(
    select(Event.id).where(Event.position.is_not(None)).order_by(Event.position.desc()).limit(1)
)


class FeedPage(NamedTuple):
    """Events in the order of the feed, and the event after which the next page starts.

    `next_after` is the last event that was examined, even if its type was not asked for. It is
    `None` only if the feed is empty.
    """

    items: Sequence[Event]
    next_after: UUID | None


def place_events(database: Database) -> bool:
    """Append committed events to the feed, and return whether more may be waiting.

    Raises:
        DatabaseUnavailable: The database failed. Nothing was placed.
    """
    unplaced = database.read(lambda reader: reader.execute(_ANY_UNPLACED).all(), single=True)
    if not unplaced:
        return False
    return database.transact(partial(_place, database))


def _place(database: Database, session: Session) -> bool:
    if not database.try_lock(session, _LOCK)():
        return False
    # This statement begins after the lock was acquired, so it sees all earlier positions.
    last = session.scalar(select(func.max(Event.position))) or 0
    order = func.row_number().over(order_by=Event.sequence).label("order")
    waiting = select(Event.sequence, order).where(Event.position.is_(None))
    batch = waiting.order_by(Event.sequence).limit(_BATCH).subquery()
    place = update(Event).where(Event.sequence == batch.c.sequence)
    placed = session.connection().execute(place.values(position=last + batch.c.order))
    return placed.rowcount == _BATCH


def read_events(
    reader: Reader, *, types: Collection[str] | None, after: UUID | None, limit: int
) -> FeedPage:
    """Return up to `limit` events after the event `after`, or from the oldest event on.

    Raises:
        EventsExpired: The event `after` is no longer kept, or never existed.
    """
    start = _position_of(reader, after)
    scanned = select(Event).where(Event.position > start).order_by(Event.position)
    rows = reader.scalars(scanned.limit(limit if types is None else _SCANNED)).all()
    found = [event for event in rows if types is None or event.type in types][:limit]
    last = found[-1] if len(found) == limit else (rows[-1] if rows else None)
    return FeedPage(found, after if last is None else last.id)


def newest_event(reader: Reader) -> UUID | None:
    """Return the id of the last event of the feed."""
    return reader.execute(_NEWEST).scalar()


def _position_of(reader: Reader, event_id: UUID | None) -> int:
    if event_id is None:
        return 0
    position = reader.scalar(
        select(Event.position).where(Event.id == event_id, Event.position.is_not(None))
    )
    if position is None:
        oldest = reader.scalar(
            select(Event.id).where(Event.position.is_not(None)).order_by(Event.position).limit(1)
        )
        raise EventsExpired if oldest is None else EventsExpired(oldest=str(oldest))
    return position


def purge_events(database: Database, keep: timedelta) -> bool:
    """Delete a batch of events older than `keep`, and return whether more may be left.

    Events are deleted from the start of the feed, so nothing is missing after an event that exists.
    The newest event is kept, so that a reader who has seen everything can continue.

    Raises:
        DatabaseUnavailable: The database failed. Nothing was deleted.
    """
    bound = first_id_from(utcnow() - keep)

    def expired(reader: Reader) -> list[int]:
        oldest = select(Event.id, Event.position).where(Event.position.is_not(None))
        oldest = oldest.where(Event.position < select(func.max(Event.position)).scalar_subquery())
        rows = reader.execute(oldest.order_by(Event.position).limit(_BATCH)).all()
        return [row.position for row in takewhile(lambda row: row.id < bound, rows)]

    positions = database.read(expired)
    if positions:
        last = delete(Event).where(Event.position <= positions[-1])
        database.transact(lambda session: session.execute(last))
    return len(positions) == _BATCH
