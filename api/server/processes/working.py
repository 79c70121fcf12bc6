"""Processes that do the background work and do not serve."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from api.server.application import Application
from api.server.processes import supervisor
from api.server.processes.serving import START_FAILED
from api.server.processes.standard_error import patient_standard_error
from api.server.processes.workers import Pulse, Workers
from api.server.upkeep import stop_all

STOP_SECONDS = 28.0
"""Time between SIGTERM and the end of the process, even if a job is still running."""
_BEAT_SECONDS = 1.0


def work(app: Application, pulse: Pulse | None = None) -> None:
    """Do the background work in threads until SIGTERM or SIGINT, then return."""

    def tell(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        app.draining.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, tell)
    for each in app.background.threads:
        each.start()
    app.logger.info("working")
    supervisor.report(supervisor.READY)
    parent = multiprocessing.parent_process()
    while not app.draining.is_set() and (parent is None or parent.is_alive()):
        if pulse is not None:
            pulse.beat()
        # The signal handler sets the event, which could deadlock with a wait for it.
        time.sleep(_BEAT_SECONDS)
    supervisor.report(supervisor.STOPPING)
    stop_all(app.background.threads, STOP_SECONDS)


def work_in_processes(
    factory: Callable[[], Application], count: int, has_ended: Callable[[int], None]
) -> None:
    """Do the background work in `count` new processes until SIGTERM or SIGINT, then return.

    The work is handed out by the broker, if the settings name one, or else found in the database.
    Each process unpickles and calls `factory`. A process that ends or hangs is replaced, and
    `has_ended` is called with its id.

    Raises:
        SystemExit: with START_FAILED, if the first processes failed to start; with 1, if one had
            to be killed.
    """
    code = Workers(partial(_work_made, factory), START_FAILED, STOP_SECONDS, has_ended).run(count)
    if code:
        sys.exit(code)


def _work_made(factory: Callable[[], Application], pulse: Pulse) -> None:
    with patient_standard_error():
        app = factory()
        url = app.settings.broker_url
        if url is None:
            work(app, pulse)
            return
        from api.server.processes.broker import work_for_broker  # noqa: PLC0415 - Celery may not be installed.

        work_for_broker(app, url, pulse)
