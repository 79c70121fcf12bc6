"""Worker processes, which are kept running until told to stop."""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from types import FrameType
from typing import TypeAlias

_log = logging.getLogger(__name__)

_SILENT_SECONDS, _START_SECONDS = 10.0, 120.0
"""Time without a heartbeat after which a worker is killed: once it has started, and before."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a worker is replaced; they double with each replacement that fails to start."""
_POLL_SECONDS = 0.2
_KILL_SECONDS = 1.0

Work: TypeAlias = Callable[["Pulse"], None]


class Workers:
    """The worker processes, supervised by the main process.

    `has_ended` is called with the id of each worker that has ended.

    `work` is pickled to each worker and sends a heartbeat at least every few seconds, the first one
    when it has started. A worker that ends or becomes silent is replaced. If the first workers exit
    with `start_failed`, all are stopped. After SIGTERM or SIGINT, workers have `stop_seconds` to
    exit.
    """

    def __init__(
        self,
        work: Work,
        start_failed: int,
        stop_seconds: float,
        has_ended: Callable[[int], None],
    ) -> None:
        self._work = work
        self._has_ended = has_ended
        self._start_failed = start_failed
        self._stop_seconds = stop_seconds
        self._told = threading.Event()

    def run(self, count: int) -> int:
        """Run workers until told to stop or until none can start; return the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._tell)
        workers = [_Worker(self._work, self._has_ended) for _ in range(count)]
        started = failed = False
        looked_at = time.monotonic()
        while not (self._told.is_set() or failed):
            running = [each.process.sentinel for each in workers if each.replace_at is None]
            multiprocessing.connection.wait(running, _POLL_SECONDS)
            # If the whole machine was paused, the workers are not to blame.
            elapsed = min(time.monotonic() - looked_at, 1.0)
            looked_at = time.monotonic()
            for worker in workers:
                worker.listen(elapsed)
                started = started or worker.has_started
                failed = failed or (not started and worker.process.exitcode == self._start_failed)
            if not failed:
                for worker in workers:
                    worker.keep_running()
        killed = self._stop([each.process for each in workers])
        return self._start_failed if failed else int(killed)

    def _tell(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._told.set()

    def _stop(self, processes: list[multiprocessing.context.SpawnProcess]) -> bool:
        """Stop all workers, and return whether one had to be killed."""
        until = time.monotonic() + self._stop_seconds + _KILL_SECONDS
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        killed = False
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
                killed = True
        return killed


class Pulse:
    """The worker's end of the connection on which it sends heartbeats."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self) -> None:
        """Send a heartbeat. It is lost if the main process does not receive it."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(b".")


class _Worker:
    """A worker process and its successors; `replace_at` is set while none runs."""

    def __init__(self, work: Work, has_ended: Callable[[int], None]) -> None:
        self._work = work
        self._has_ended = has_ended
        self._pause = _FIRST_PAUSE
        self._start()

    def _start(self) -> None:
        # The application may have threads, which do not survive a fork.
        context: SpawnContext = multiprocessing.get_context("spawn")
        self._signs, theirs = context.Pipe(duplex=False)
        os.set_blocking(theirs.fileno(), False)
        self.process = context.Process(target=self._work, args=(Pulse(theirs),))
        self.process.start()
        theirs.close()
        self.has_started = False
        self.replace_at: float | None = None
        self._silence = 0.0

    def listen(self, elapsed: float) -> None:
        """Record heartbeats, or `elapsed` seconds without any."""
        self._silence += elapsed
        with contextlib.suppress(EOFError, OSError):
            while self._signs.poll():
                self._signs.recv_bytes()
                self.has_started, self._silence = True, 0.0

    def keep_running(self) -> None:
        """Kill the process if it is silent, and replace it, after a pause, if it has ended."""
        if self.process.is_alive():
            if self._silence > (_SILENT_SECONDS if self.has_started else _START_SECONDS):
                _log.error("a worker has been silent for %d seconds and is killed", self._silence)
                self.process.kill()
                self.process.join()
        elif self.replace_at is None:
            # A worker that keeps crashing must not keep the machine busy with restarts.
            self._pause = _FIRST_PAUSE if self.has_started else self._pause
            code = self.process.exitcode
            _log.error("a worker exited with %s; replaced in %d seconds", code, self._pause)
            if self.process.pid is not None:
                self._has_ended(self.process.pid)
            self.replace_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        elif time.monotonic() >= self.replace_at:
            self._signs.close()
            self._start()
