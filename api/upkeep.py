"""Work that nobody asks for: what has run out is put in order while the service runs."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.logs import Logger

_PAUSE = 1.0
_PATIENCE = 1.0
"""Seconds that the end of the service waits for a job to finish."""


@dataclass(frozen=True, slots=True)
class Job:
    """Blocking work that is done again and again, at least `seconds` apart.

    It may be cut off at any instant, and other processes do the same. Work that answers True has
    more to do, and is done again at once unless the service ends.
    """

    name: str
    seconds: float
    work: Callable[[], object]


class Upkeep:
    """Does its jobs one after the other in a thread of its own.

    The thread is a daemon: a job that waits for a database that is away does not keep the process
    from ending.
    """

    def __init__(self, jobs: Sequence[Job], logger: Logger, *, pause: float = _PAUSE) -> None:
        """Prepare; jobs are looked at every `pause` seconds."""
        self._jobs = jobs
        self._logger = logger
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._failing: set[str] = set()

    def start(self) -> None:
        """Begin. It can be done once."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no other job, and wait a moment for the one that runs."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        due = dict.fromkeys((job.name for job in self._jobs), 0.0)
        while not self._stopping.wait(self._pause):
            for job in self._jobs:
                if time.monotonic() >= due[job.name] and not self._stopping.is_set():
                    due[job.name] = time.monotonic() + job.seconds
                    self._do(job)

    def _do(self, job: Job) -> None:
        """Do a job. That it fails, and that it works again, is said once and not every second."""
        try:
            while job.work() is True and not self._stopping.is_set():
                pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the next time may be better.
            # Only the names of errors are logged: what they say may hold what people entrusted.
            cause = error.__cause__ or error
            if job.name not in self._failing:
                self._logger.warning("upkeep failed", job=job.name, cause=type(cause).__name__)
            self._failing.add(job.name)
        else:
            if job.name in self._failing:
                self._logger.info("upkeep works again", job=job.name)
            self._failing.discard(job.name)
