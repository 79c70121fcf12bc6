"""Several processes that do the same work, kept alive until told to stop."""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from types import FrameType

_log = logging.getLogger(__name__)

_RESTART_SECONDS = 1.0
_KILL_SECONDS = 1.0


class Workers:
    """The processes that serve, watched by one that does not.

    `work` is pickled to each. A process that ends by itself is replaced, but for one that exits
    with `start_failed`, which ends them all. Told to stop by SIGTERM or SIGINT, they have
    `stop_seconds` to end.
    """

    def __init__(self, work: Callable[[], None], start_failed: int, stop_seconds: float) -> None:
        # Threads, which the application may hold, do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._work = work
        self._start_failed = start_failed
        self._stop_seconds = stop_seconds
        self._told = threading.Event()

    def run(self, count: int) -> int:
        """Serve until told to stop or unable to start; the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._tell)
        processes = [self._start() for _ in range(count)]
        failed = False
        while not (self._told.is_set() or failed):
            multiprocessing.connection.wait([each.sentinel for each in processes], timeout=0.2)
            for index, process in enumerate(processes):
                if process.is_alive():
                    continue
                if process.exitcode == self._start_failed:
                    failed = True
                    break
                _log.error("a worker ended with %s and is replaced", process.exitcode)
                # One that cannot live must not keep the machine busy with being started.
                time.sleep(_RESTART_SECONDS)
                processes[index] = self._start()
        killed = self._stop(processes)
        return self._start_failed if failed else int(killed)

    def _tell(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._told.set()

    def _start(self) -> BaseProcess:
        process = self._context.Process(target=self._work)
        process.start()
        return process

    def _stop(self, processes: list[BaseProcess]) -> bool:
        """Tell all to stop, and wait; whether one had to be killed."""
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
