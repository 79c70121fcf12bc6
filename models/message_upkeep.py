"""What is done about messages while nobody asks: those that nobody could send do not stay."""

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.base import utcnow
from models.database import Database
from models.message import PATIENCE, Message

_BATCH = 1000
_GRACE = timedelta(hours=1)
"""For whoever sends, so that they try it for the last time and say that they gave it up."""


def purge_messages(database: Database) -> None:
    """Remove messages that are too old to be sent, a few at a time.

    Raises:
        DatabaseUnavailable: what was removed so far stays so.
    """
    work = partial(_purge, before=utcnow() - PATIENCE - _GRACE)
    while database.transact(work, write=True) == _BATCH:
        pass


def _purge(session: Session, before: datetime) -> int:
    oldest = select(Message.id).where(Message.created_at < before).order_by(Message.id)
    # What another process is removing or sending is passed over instead of waited for.
    batch = oldest.limit(_BATCH).with_for_update(skip_locked=True)
    rows = delete(Message).where(Message.id.in_(batch)).returning(Message.id)
    unsynchronised = rows.execution_options(synchronize_session=False)
    return len(session.execute(unsynchronised).all())
