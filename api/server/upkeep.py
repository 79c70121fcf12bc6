"""Background jobs, which clean up and maintain data while the service runs."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import uuid4

from api.server.logs import Logger
from api.server.metrics import Metrics
from models.errors import DatabaseUnavailable
from models.jobs.job_state import CAUSE_LENGTH, Failure, JobState, ReportedRun, RowSetAside
from models.storage.base import utcnow
from models.storage.database import Database

_PAUSE = 1.0
_REST, _SHORTEST_REST, _LONGEST_REST = 2.0, 0.01, 1.0
"""The rest after a part of a long job, as a multiple of the part's time, and its bounds in seconds.

Rests leave the processor and the locks to requests.
"""
_REPORT_SECONDS = 60.0
_PATIENCE = timedelta(seconds=150)
"""Silence after which another process can end the failure of a job with `has_recovered`."""


@dataclass(frozen=True, slots=True)
class Job:
    """Blocking work that is repeated, at least `seconds` apart.

    A job may be interrupted at any time, and other processes run the same jobs. If `work` returns
    True, more is left to do, and the job is repeated after the other jobs have had their turn. If
    it `rests`, it first waits twice as long as the work took, to leave most time to requests.
    Work without an error ends an earlier failure, unless `has_recovered` returns False.
    Several processes that do a job at once share the work only if it `is_shared`.
    """

    name: str
    seconds: float
    work: Callable[[], object]
    has_recovered: Callable[[], bool] | None = None
    is_shared: bool = False
    rests: bool = True


def report_row(
    logger: Logger, metrics: Metrics, database: Database, job: str
) -> Callable[[object, Exception], None]:
    """Return a function that logs, counts and records a row that a job sets aside."""

    def report(key: object, error: Exception) -> None:
        # Messages of errors may contain personal data.
        cause = type(error.__cause__ or error).__name__
        logger.warning("row set aside", job=job, row=str(key), cause=cause)
        metrics.count_row_set_aside(job)
        with suppress(DatabaseUnavailable):
            database.transact(partial(RowSetAside.record, job=job, key=str(key)))

    return report


class BackgroundThread(Protocol):
    """A thread that works until it is stopped."""

    def start(self) -> None:
        """Start the thread. It can be started only once."""

    def stop(self, seconds: float = 0.0) -> None:
        """Begin nothing further, and wait up to `seconds` for what is running."""


class Reporter:
    """Reports the runs of jobs in one process to the database, for administrators. Thread-safe.

    A job is reported once a minute, and at once when it begins or ceases to fail. A success in any
    process ends a failure. If the job says when it `has_recovered`, only the process that failed
    can end the failure, unless it has reported nothing for `_PATIENCE`.
    """

    def __init__(self, database: Database, logger: Logger) -> None:
        self._database = database
        self._logger = logger
        self._id = uuid4()
        self._due: dict[str, float] = {}

    def report(
        self, job: Job, started_at: datetime, failure: Failure | None, *, has_changed: bool
    ) -> None:
        """Report a run that has ended, if a report is due."""
        clock = time.monotonic()
        if not has_changed and clock < self._due.get(job.name, clock):
            return
        # A report that fails is not repeated sooner, to spare the database.
        self._due[job.name] = clock + _REPORT_SECONDS
        now = utcnow()
        patience = _PATIENCE if job.has_recovered else timedelta()
        run = ReportedRun(job.name, started_at, now, self._id, failure, now - patience)
        try:
            self._database.transact(partial(JobState.report, run=run))
        except DatabaseUnavailable:
            # Readiness reports it.
            pass
        except Exception as error:  # noqa: BLE001 - the job goes on, whatever it is.
            self._logger.warning("job not reported", job=job.name, cause=type(error).__name__)


class Runner:
    """Runs jobs, and logs, counts and reports their failures. Used by one thread."""

    def __init__(self, logger: Logger, metrics: Metrics, reporter: Reporter | None = None) -> None:
        self._logger = logger
        self._metrics = metrics
        self._reporter = reporter
        self._failing: dict[str, Failure] = {}

    def attempt(self, job: Job) -> float | None:
        """Run a job; return the seconds until its next part, or `None` if nothing is left to do.

        The first failure and the recovery are logged, not every failure.
        """
        began, started_at = time.monotonic(), utcnow()
        before = self._failing.get(job.name)
        try:
            more = job.work() is True
        except Exception as error:  # noqa: BLE001 - whatever it is, the next time may be better.
            self._fail(job, error)
            more = False
        else:
            self._metrics.count_job(job.name, succeeded=True)
            if before and (job.has_recovered is None or job.has_recovered()):
                self._logger.info("upkeep recovered", job=job.name)
                del self._failing[job.name]
        seconds = time.monotonic() - began
        if self._reporter:
            failure = self._failing.get(job.name)
            has_changed = (failure is None) != (before is None)
            self._reporter.report(job, started_at, failure, has_changed=has_changed)
        if not more:
            return None
        rest = _REST * seconds if job.rests else 0.0
        return min(max(rest, _SHORTEST_REST), _LONGEST_REST)

    def _fail(self, job: Job, error: Exception) -> None:
        # Only class names are logged, because messages of errors may contain personal data.
        cause, now = error.__cause__ or error, utcnow()
        name, code = type(cause).__name__, getattr(cause, "smtp_code", None)
        before = self._failing.get(job.name)
        if before is None:
            reply = {} if code is None else {"code": code}
            self._logger.warning("upkeep failed", job=job.name, cause=name, **reply)
        since = before.since if before else now
        self._failing[job.name] = Failure(since, now, name[:CAUSE_LENGTH])
        self._metrics.count_job(job.name, succeeded=False)


class Upkeep:
    """Runs jobs in turn, in a thread of its own.

    The thread is a daemon, so that a job that waits for an unreachable database does not keep the
    process alive.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        logger: Logger,
        *,
        ready: Callable[[], bool] = lambda: True,
        metrics: Metrics | None = None,
        reporter: Reporter | None = None,
        pause: float = _PAUSE,
    ) -> None:
        """Create the thread without starting it; due jobs are looked for every `pause` seconds.

        Jobs run only while `ready()` returns true.
        """
        self._jobs = jobs
        self._runner = Runner(logger, metrics or Metrics(), reporter)
        self._ready = ready
        self._pause = pause
        self._stopping = threading.Event()
        name = f"upkeep {jobs[0].name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. It can be started only once."""
        self._thread.start()

    def stop(self, seconds: float = 0.0) -> None:
        """Start no further job, and wait up to `seconds` for a running one."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        due = dict.fromkeys((job.name for job in self._jobs), 0.0)
        pause = self._pause
        while not self._stopping.wait(pause):
            rests = 0.0
            for job in self._jobs if self._ready() else ():
                began = time.monotonic()
                if began < due[job.name] or self._stopping.is_set():
                    continue
                rest = self._runner.attempt(job)
                if rest is None:
                    due[job.name] = began + job.seconds
                else:
                    rests += rest
            pause = min(rests, _LONGEST_REST) or self._pause


def stop_all(threads: Sequence[BackgroundThread], seconds: float) -> None:
    """Start no further jobs, and wait up to `seconds` for those that are running."""
    until = time.monotonic() + seconds
    for each in threads:
        each.stop()
    for each in threads:
        each.stop(max(0.0, until - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Background:
    """The work of an installation that needs no request, so that any process can do it."""

    jobs: Sequence[Job]
    lanes: Sequence[Upkeep]
    """Threads that do the jobs, unless a broker hands them out."""
    others: Sequence[BackgroundThread]
    """Threads that check the database and send webhooks, with or without a broker."""

    @property
    def threads(self) -> Sequence[BackgroundThread]:
        """All threads."""
        return [*self.others, *self.lanes]
