"""Background jobs, which clean up and maintain data while the service runs."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from api.server.logs import Logger
from api.server.metrics import Metrics

_PAUSE = 1.0
_REST, _SHORTEST_REST, _LONGEST_REST = 2.0, 0.01, 1.0
"""The rest after a part of a long job, as a multiple of the part's time, and its bounds in seconds.

Rests leave the processor and the locks to requests.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """Blocking work that is repeated, at least `seconds` apart.

    A job may be interrupted at any time, and other processes run the same jobs. If `work` returns
    True, more is left to do, and the job is repeated after the other jobs have had their turn. If
    it `rests`, it first waits twice as long as the work took, to leave most time to requests.
    `has_recovered` tells whether work without an error means that an earlier failure is over.
    Several processes that do a job at once share the work only if it `is_shared`.
    """

    name: str
    seconds: float
    work: Callable[[], object]
    has_recovered: Callable[[], bool] = lambda: True
    is_shared: bool = False
    rests: bool = True


def report_row(logger: Logger, metrics: Metrics, job: str) -> Callable[[object, Exception], None]:
    """Return a function that logs and counts a row that a job sets aside."""

    def report(key: object, error: Exception) -> None:
        # Messages of errors may contain personal data.
        cause = type(error.__cause__ or error).__name__
        logger.warning("row set aside", job=job, row=str(key), cause=cause)
        metrics.count_row_set_aside(job)

    return report


class BackgroundThread(Protocol):
    """A thread that works until it is stopped."""

    def start(self) -> None:
        """Start the thread. It can be started only once."""

    def stop(self, seconds: float = 0.0) -> None:
        """Begin nothing further, and wait up to `seconds` for what is running."""


class Runner:
    """Runs jobs, and logs and counts their failures. Used by one thread."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics
        self._failing: set[str] = set()

    def attempt(self, job: Job) -> float | None:
        """Run a job; return the seconds until its next part, or `None` if nothing is left to do.

        The first failure and the recovery are logged, not every failure.
        """
        began = time.monotonic()
        try:
            more = job.work() is True
        except Exception as error:  # noqa: BLE001 - whatever it is, the next time may be better.
            # Only class names are logged, because messages of errors may contain personal data.
            cause = error.__cause__ or error
            if job.name not in self._failing:
                name, code = type(cause).__name__, getattr(cause, "smtp_code", None)
                reply = {} if code is None else {"code": code}
                self._logger.warning("upkeep failed", job=job.name, cause=name, **reply)
            self._failing.add(job.name)
            self._metrics.count_job(job.name, succeeded=False)
            return None
        self._metrics.count_job(job.name, succeeded=True)
        if job.name in self._failing and job.has_recovered():
            self._logger.info("upkeep recovered", job=job.name)
            self._failing.discard(job.name)
        if not more:
            return None
        rest = _REST * (time.monotonic() - began) if job.rests else 0.0
        return min(max(rest, _SHORTEST_REST), _LONGEST_REST)


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
        pause: float = _PAUSE,
    ) -> None:
        """Create the thread without starting it; due jobs are looked for every `pause` seconds.

        Jobs run only while `ready()` returns true.
        """
        self._jobs = jobs
        self._runner = Runner(logger, metrics or Metrics())
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
