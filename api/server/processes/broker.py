"""Background work that a message broker hands out, with Celery (https://docs.celeryq.dev).

A message only names a job. The rows of the database tell what is to be done, and `JobRun` tells
whether it is time, so it does no harm if messages are lost, repeated or late.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID

import celery
from celery import signals
from celery.beat import EmbeddedService
from celery.exceptions import OperationalError

from api.server.application import Application
from api.server.processes import supervisor
from api.server.processes.workers import Pulse
from api.server.upkeep import Job, Reporter, Runner, stop_all
from models.errors import DatabaseUnavailable
from models.jobs.job_run import JobRun

_TASK = "concord.run_job"
_SLICE_SECONDS = 5.0
"""Time after which a job that has more to do lets others have their turn."""
_LIMIT_SECONDS = 30.0
"""Time after which a job that is still running stops the heartbeat, so its process is killed."""
_MOST_PAUSE = 10.0
"""Seconds between two messages about a job. `JobRun` keeps its longer intervals."""
_BEAT_SECONDS = 1.0
_PATIENCE = 5.0
"""Maximum seconds that a process that stops waits for other threads, once its job has ended."""


class JobTask:
    """What a message asks for: one run of a job, for a few seconds."""

    def __init__(self, app: Application, ask_for_help: Callable[[str], None]) -> None:
        self._database = app.database
        self._stopping = app.draining
        self._jobs = {job.name: job for job in app.background.jobs}
        self._runner = Runner(app.logger, app.metrics, Reporter(app.database, app.logger))
        self._ask_for_help = ask_for_help
        self._began: float | None = None

    @property
    def is_overdue(self) -> bool:
        """Whether a run takes longer than any should."""
        began = self._began
        return began is not None and time.monotonic() - began > _LIMIT_SECONDS

    def run(self, name: str, run_id: UUID, *, is_helper: bool) -> None:
        """Run a job if it is due, or help another run of it. An unknown job is ignored.

        A database that cannot be reached ends the run. The job is then due again later.
        """
        job = self._jobs.get(name)
        self._began = time.monotonic()
        with suppress(DatabaseUnavailable):
            if job is not None and is_helper:
                self._work(job)
            elif job is not None and self._begin(name, run_id):
                pause = 0.0 if self._work(job) else job.seconds
                end = partial(JobRun.end, name=name, run_id=run_id, pause=timedelta(seconds=pause))
                self._database.transact(end)
        self._began = None

    def _begin(self, name: str, run_id: UUID) -> bool:
        is_due = partial(JobRun.is_due, name=name, run_id=run_id)
        begin = partial(JobRun.begin, name=name, run_id=run_id)
        return self._database.read(is_due, single=True) and self._database.transact(begin)

    def _work(self, job: Job) -> bool:
        """Work for a few seconds, and return whether more is left to do.

        The first sign of more work brings one helper, which may bring another. So a server that
        hangs holds one process, and a long queue occupies them all.
        """
        until = time.monotonic() + _SLICE_SECONDS
        has_help = not job.is_shared
        while (rest := self._runner.attempt(job)) is not None:
            # A signal handler sets the event, which could deadlock with a wait for it.
            time.sleep(rest)
            if self._stopping.is_set() or time.monotonic() > until:
                return True
            if not has_help:
                self._ask_for_help(job.name)
                has_help = True
        return False


def send_pulse(task: JobTask, pulse: Pulse, pause: float = _BEAT_SECONDS) -> None:
    """Send heartbeats, except while a run takes too long; end with the main process."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        if not task.is_overdue:
            pulse.beat()
        time.sleep(pause)
    os.kill(os.getpid(), signal.SIGTERM)


def work_for_broker(app: Application, url: str, pulse: Pulse) -> None:
    """Do the background work that the broker at `url` hands out, until SIGTERM or SIGINT."""
    worker = _make_celery(app, url)

    def ask_for_help(name: str) -> None:
        # Without its broker, the process does the rest alone.
        with suppress(OperationalError):
            worker.send_task(_TASK, (name, True), expires=_SLICE_SECONDS, retry=False)

    task = JobTask(app, ask_for_help)

    def run_job(request: celery.Task, name: str, is_helper: bool = False) -> None:  # noqa: FBT002 - messages have their arguments by position.
        task.run(name, UUID(request.request.id), is_helper=is_helper)

    worker.task(name=_TASK, bind=True)(run_job)
    scheduler = EmbeddedService(worker, thread=True, scheduler_cls="celery.beat:Scheduler")

    def start(**_signal: object) -> None:
        scheduler.start()
        app.logger.info("working")
        supervisor.report(supervisor.READY)

    def stop(**_signal: object) -> None:
        app.draining.set()
        supervisor.report(supervisor.STOPPING)

    def leave_logging(**_signal: object) -> None:
        """Keep Celery from configuring it."""

    signals.setup_logging.connect(leave_logging, weak=False)
    signals.worker_ready.connect(start, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    threading.Thread(target=send_pulse, args=(task, pulse), name="pulse", daemon=True).start()
    for each in app.background.others:
        each.start()
    # More processes come from the supervisor, which also replaces them.
    worker.Worker(
        pool="solo", quiet=True, without_gossip=True, without_mingle=True, without_heartbeat=True
    ).start()
    stop_all(app.background.others, _PATIENCE)


def _make_celery(app: Application, url: str) -> celery.Celery:
    worker = celery.Celery("concord", broker=url, set_as_current=False)
    worker.conf.update(
        # A message is acknowledged after its run, so that another process gets it if this one dies.
        task_acks_late=True,
        task_ignore_result=True,
        task_default_queue="concord",
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Redis gives a message to another process after this time.
        broker_transport_options={"visibility_timeout": 60} if url.startswith("redis") else {},
        beat_schedule={
            job.name: {
                "task": _TASK,
                "schedule": min(job.seconds, _MOST_PAUSE),
                "args": (job.name,),
                "options": {"expires": _MOST_PAUSE},
            }
            for job in app.background.jobs
        },
    )
    return worker
