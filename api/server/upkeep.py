"""Background jobs, which clean up and maintain data while the service runs."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.server.logs import Logger
from api.server.metrics import Metrics

_PAUSE = 1.0
_BREATH = 0.01
"""Seconds between two parts of a long job, so that waiting transactions get the write lock."""
_PATIENCE = 1.0
"""Maximum seconds that stopping waits for a running job."""


@dataclass(frozen=True, slots=True)
class Job:
    """Blocking work that is repeated, at least `seconds` apart.

    A job may be interrupted at any time, and other processes run the same jobs. If `work` returns
    True, more is left to do, and the job is repeated after the other jobs have had their turn.
    `has_recovered` tells whether work without an error means that an earlier failure is over.
    """

    name: str
    seconds: float
    work: Callable[[], object]
    has_recovered: Callable[[], bool] = lambda: True


def report_row(logger: Logger, metrics: Metrics, job: str) -> Callable[[object, Exception], None]:
    """Return a function that logs and counts a row that a job sets aside."""

    def report(key: object, error: Exception) -> None:
        # Messages of errors may contain personal data.
        cause = type(error.__cause__ or error).__name__
        logger.warning("row set aside", job=job, row=str(key), cause=cause)
        metrics.count_row_set_aside(job)

    return report


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
        self._logger = logger
        self._ready = ready
        self._metrics = metrics or Metrics()
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._failing: set[str] = set()

    def start(self) -> None:
        """Start the thread. It can be started only once."""
        self._thread.start()

    def stop(self) -> None:
        """Start no further job, and wait briefly for a running one."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        due = dict.fromkeys((job.name for job in self._jobs), 0.0)
        pause = self._pause
        while not self._stopping.wait(pause):
            pause = self._pause
            if not self._ready():
                continue
            for job in self._jobs:
                began = time.monotonic()
                if began < due[job.name] or self._stopping.is_set():
                    continue
                if self._attempt(job):
                    pause = _BREATH
                else:
                    due[job.name] = began + job.seconds

    def _attempt(self, job: Job) -> bool:
        """Run a job, and return whether more is left to do.

        The first failure and the recovery are logged, not every failure.
        """
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
            return False
        self._metrics.count_job(job.name, succeeded=True)
        if job.name in self._failing and job.has_recovered():
            self._logger.info("upkeep recovered", job=job.name)
            self._failing.discard(job.name)
        return more
