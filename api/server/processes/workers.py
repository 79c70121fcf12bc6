"""Worker processes, which are kept running until told to stop."""

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
    """The worker processes, supervised by the main process.

    `work` is pickled to each worker. A worker that ends unexpectedly is replaced, but one that
    exits with `start_failed` stops them all. After SIGTERM or SIGINT, workers have `stop_seconds`
    to exit.
    """

    def __init__(self, work: Callable[[], None], start_failed: int, stop_seconds: float) -> None:
        # The application may have threads, which do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._work = work
        self._start_failed = start_failed
        self._stop_seconds = stop_seconds
        self._told = threading.Event()

    def run(self, count: int) -> int:
        """Run workers until told to stop or until one fails to start; return the exit code."""
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
                _log.error("a worker exited with %s and is being replaced", process.exitcode)
                # A worker that keeps crashing must not keep the machine busy with restarts.
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
