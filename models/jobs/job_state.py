"""The progress and failures of background jobs, combined from the reports of all processes."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import String, Uuid, bindparam, delete, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.jobs.backlog import read_backlog
from models.set_aside import ASIDE
from models.storage.base import Base, UTCDateTime, utcnow
from models.storage.reader import Reader

CAUSE_LENGTH = 100
_KEY_LENGTH = 200


class Failure(NamedTuple):
    """A failure of a job in one process: its start, its last occurrence, and the error's class."""

    since: datetime
    last: datetime
    cause: str


class ReportedRun(NamedTuple):
    """A run of a job in the process `reporter`.

    `failure` is `None` if the job does not fail in this process. The run then also ends a failure
    that another process last reported before `outdated_before`.
    """

    name: str
    started_at: datetime
    ended_at: datetime
    reporter: UUID
    failure: Failure | None
    outdated_before: datetime


class JobState(Base):
    """The last reported run of a job, and its failures.

    `failing_since` is set while the job fails in a process. `reporter` is the process that reported
    the last failure, at `reported_at`. A success in this process ends the failure. A success in
    another process ends it only if `reported_at` is before that run's `outdated_before`.
    """

    __tablename__ = "job_states"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(UTCDateTime)
    ended_at: Mapped[datetime] = mapped_column(UTCDateTime)
    failing_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    failed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    cause: Mapped[str | None] = mapped_column(String(CAUSE_LENGTH))
    reporter: Mapped[UUID | None] = mapped_column(Uuid)
    reported_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @classmethod
    def report(cls, session: Session, run: ReportedRun) -> None:
        """Report a run of a job."""
        values = {"name": run.name, "started_at": run.started_at, "ended_at": run.ended_at}
        values["reporter"] = run.reporter
        if run.failure is None:
            values["outdated_before"] = run.outdated_before
            session.connection().execute(_SUCCESS, values)
            return
        failure = run.failure
        values |= {"since": failure.since, "failed_at": failure.last, "cause": failure.cause}
        session.connection().execute(_FAILURE, values)


class RowSetAside(Base):
    """A row that a job in one of the processes has set aside until a given time."""

    __tablename__ = "rows_set_aside"

    job: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(_KEY_LENGTH), primary_key=True)
    until: Mapped[datetime] = mapped_column(UTCDateTime)

    @classmethod
    def record(cls, session: Session, job: str, key: str) -> None:
        """Record a row, and delete records of the job's rows that are no longer set aside."""
        now = utcnow()
        session.execute(delete(cls).where(cls.job == job, cls.until <= now))
        values = {"job": job, "key": key[:_KEY_LENGTH], "until": now + ASIDE}
        session.connection().execute(_SET_ASIDE, values)


class JobView(NamedTuple):
    """A job as administrators see it. `waiting` is `None` if the job's backlog is not counted."""

    name: str
    started_at: datetime | None
    ended_at: datetime | None
    failing_since: datetime | None
    failed_at: datetime | None
    cause: str | None
    waiting: int | None
    waiting_seconds: int | None
    set_aside: int


def view_jobs(reader: Reader, names: Iterable[str]) -> Sequence[JobView]:
    """Return the state of each named job, ordered by name."""
    states = {state.name: state for state in reader.scalars(select(JobState))}
    kept = select(RowSetAside.job, func.count()).where(RowSetAside.until > utcnow())
    aside = {row[0]: row[1] for row in reader.execute(kept.group_by(RowSetAside.job)).all()}
    backlog = read_backlog(reader)
    waiting = {
        "mail": (backlog.messages, int(backlog.message_seconds)),
        "orders": (backlog.overdue_orders, int(backlog.overdue_seconds)),
    }
    return [
        _view(name, states.get(name), waiting.get(name, (None, None)), aside.get(name, 0))
        for name in sorted(names)
    ]


def _view(
    name: str, state: JobState | None, waiting: tuple[int | None, int | None], set_aside: int
) -> JobView:
    if state is None:
        return JobView(name, None, None, None, None, None, *waiting, set_aside)
    return JobView(
        name,
        state.started_at,
        state.ended_at,
        state.failing_since,
        state.failed_at,
        state.cause,
        *waiting,
        set_aside,
    )


_TYPES = (
    *(bindparam(each, type_=UTCDateTime) for each in ("started_at", "ended_at")),
    bindparam("reporter", type_=Uuid),
)
# This is plain SQL because SQLAlchemy has no ON CONFLICT construct common to both databases.
_SUCCESS = text(
    "INSERT INTO job_states (name, started_at, ended_at) VALUES (:name, :started_at, :ended_at)"
    " ON CONFLICT (name) DO UPDATE SET started_at = :started_at, ended_at = :ended_at,"
    " failing_since = CASE WHEN job_states.reporter = :reporter"
    " OR job_states.reported_at < :outdated_before THEN NULL ELSE job_states.failing_since END"
).bindparams(*_TYPES, bindparam("outdated_before", type_=UTCDateTime))
_FAILURE = text(
    "INSERT INTO job_states (name, started_at, ended_at, failing_since, failed_at, cause,"
    " reporter, reported_at)"
    " VALUES (:name, :started_at, :ended_at, :since, :failed_at, :cause, :reporter, :ended_at)"
    " ON CONFLICT (name) DO UPDATE SET started_at = :started_at, ended_at = :ended_at,"
    " failing_since = coalesce(job_states.failing_since, :since), failed_at = :failed_at,"
    " cause = :cause, reporter = :reporter, reported_at = :ended_at"
).bindparams(*_TYPES, *(bindparam(each, type_=UTCDateTime) for each in ("since", "failed_at")))
_SET_ASIDE = text(
    "INSERT INTO rows_set_aside (job, key, until) VALUES (:job, :key, :until)"
    " ON CONFLICT (job, key) DO UPDATE SET until = :until"
).bindparams(bindparam("until", type_=UTCDateTime))
