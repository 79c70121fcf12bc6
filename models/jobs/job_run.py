"""Runs of scheduled jobs, one at a time, however many processes are told to run them."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import String, Uuid, bindparam, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.storage.base import Base, UTCDateTime, utcnow
from models.storage.reader import Reader

_LEASE = timedelta(seconds=60)
"""Time after which a run that has not ended counts as lost. Every run takes less."""


class JobRun(Base):
    """The last run of a job. Before `due_at`, only the run `run_id` itself can begin again."""

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    run_id: Mapped[UUID] = mapped_column(Uuid)
    due_at: Mapped[datetime] = mapped_column(UTCDateTime)

    @classmethod
    def is_due(cls, reader: Reader, name: str, run_id: UUID) -> bool:
        """Return whether a run of the job could begin."""
        found = reader.execute(select(cls.run_id, cls.due_at).where(cls.name == name)).one_or_none()
        return found is None or found.due_at <= utcnow() or found.run_id == run_id

    @classmethod
    def begin(cls, session: Session, name: str, run_id: UUID) -> bool:
        """Begin a run, and return whether it may go on; of concurrent runs, only one may."""
        now = utcnow()
        values = {"name": name, "run_id": run_id, "now": now, "until": now + _LEASE}
        return session.connection().execute(_BEGIN, values).rowcount == 1

    @classmethod
    def end(cls, session: Session, name: str, run_id: UUID, pause: timedelta) -> None:
        """End a run, so that the next one can begin after `pause`."""
        mine = (cls.name == name) & (cls.run_id == run_id)
        session.execute(update(cls).where(mine).values(due_at=utcnow() + pause))


# This is plain SQL because SQLAlchemy has no ON CONFLICT construct common to both databases.
_BEGIN = text(
    "INSERT INTO job_runs (name, run_id, due_at) VALUES (:name, :run_id, :until)"
    " ON CONFLICT (name) DO UPDATE SET run_id = :run_id, due_at = :until"
    " WHERE job_runs.due_at <= :now OR job_runs.run_id = :run_id"
).bindparams(
    bindparam("run_id", type_=Uuid),
    bindparam("now", type_=UTCDateTime),
    bindparam("until", type_=UTCDateTime),
)
