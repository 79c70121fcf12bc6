"""Celery hands out the background work, and loses nothing with its broker or workers (M24)."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from typing_extensions import override

from api.server.application import Application
from api.server.processes.broker import JobTask, send_pulse
from api.server.processes.workers import Pulse
from api.server.setting_files import SettingsError
from api.server.settings import Settings
from api.server.upkeep import Background, Job
from app import create_app
from models.storage.database import Database
from tests.api.server.test_work import OVER, make_due, wait_until, waiting, welcome
from tests.databases import make_database_url
from tests.factories import make_order
from tests.live import HOST, free_port, running_worker
from tests.models.books import check_books
from tests.models.reading import read_order
from tests.servers.brokers import BROKERS, require_broker
from tests.servers.mail_server import mail_server
from tests.tools import find_tool

pytestmark = pytest.mark.mission("M24")

STUCK = (sys.executable, str(Path(__file__).parents[2] / "stuck_worker.py"))


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a supervisor started, without the one that tracks resources."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@contextmanager
def redis_server(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis server that forgets everything when it ends."""
    command = [find_tool("redis-server"), "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(  # noqa: S603 - our own command.
        [*command, "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port) as client:
            wait_until(lambda: answers(client))
        yield process
    finally:
        process.kill()
        process.wait()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize("broker", BROKERS)
def test_the_work_of_a_killed_process_is_done_by_another(broker: str, tmp_path: Path) -> None:
    broker_url = require_broker(broker)
    kind = "sqlite" if broker == "redis" else "postgresql"
    with make_database_url(kind, tmp_path) as url, mail_server() as inbox:
        database = Database(url)
        welcome(database, 3)
        inbox.most = 1
        settings = {"APP_ENV": "test", "DATABASE_URL": url, "BROKER_URL": broker_url}
        settings |= {"MAIL_URL": f"smtp://{HOST}:{inbox.port}", "WORKERS": "2"}
        with running_worker(tmp_path, settings) as process:
            wait_until(lambda: inbox.held == 1)
            for worker in workers_of(process):
                os.kill(worker, signal.SIGKILL)
            inbox.most = None
            make_due(database)
            order = make_order(database, reservation=OVER)
            wait_until(lambda: read_order(database, order).status == "expired")
            wait_until(lambda: waiting(database) == 0)
        check_books(database)
        database.dispose()
    assert len({message["Message-ID"] for message in inbox.messages}) == 3
    assert len(inbox.messages) == 4


def test_nothing_is_lost_with_the_broker(tmp_path: Path) -> None:
    port = free_port()
    with make_database_url("sqlite", tmp_path) as url, mail_server() as inbox:
        database = Database(url)
        settings = {"APP_ENV": "test", "DATABASE_URL": url}
        settings |= {"MAIL_URL": f"smtp://{HOST}:{inbox.port}"}
        settings |= {"BROKER_URL": f"redis://{HOST}:{port}/0"}
        with redis_server(port, tmp_path) as broker, running_worker(tmp_path, settings):
            welcome(database, 1)
            wait_until(lambda: waiting(database) == 0)
            broker.kill()
            broker.wait()
            welcome(database, 1)
            with redis_server(port, tmp_path):
                wait_until(lambda: waiting(database) == 0)
        database.dispose()
    assert len(inbox.messages) == 2


class Heartbeats(Pulse):
    """Counts heartbeats until it ends the thread that sends them."""

    def __init__(self) -> None:
        self.count = 0
        self.is_enough = False

    @override
    def beat(self) -> None:
        self.count += 1
        if self.is_enough:
            raise SystemExit


@contextmanager
def worker_for(job: Job, tmp_path: Path) -> Iterator[Application]:
    """Yield an application with only this job."""
    values = {"DATABASE_URL": f"sqlite:///{tmp_path / 'concord.db'}", "APP_ENV": "test"}
    values |= {"SIGNING_KEY_FILE": str(tmp_path / "key.pem")}
    with closing(create_app(Settings.from_environment(values))) as app:
        yield replace(app, background=Background([job], [], []))


def test_a_task_over_its_time_limit_stops_the_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server.processes.broker._LIMIT_SECONDS", 0.1)
    may_end, pulse = threading.Event(), Heartbeats()
    with worker_for(Job("stuck", 1, lambda: may_end.wait(60)), tmp_path) as worker:
        task = JobTask(worker, lambda _name: None)

        def beat() -> None:
            with suppress(SystemExit):
                send_pulse(task, pulse, 0.01)

        run = partial(task.run, "stuck", uuid4(), is_helper=True)
        threads = [threading.Thread(target=each, daemon=True) for each in (run, beat)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: task.is_overdue)
            before = pulse.count
            time.sleep(0.1)
            # One heartbeat may have been on its way.
            assert pulse.count <= before + 1
            may_end.set()
            wait_until(lambda: pulse.count > before + 1)
        finally:
            may_end.set()
            pulse.is_enough = True
            for thread in threads:
                thread.join(60)


def test_a_task_over_its_time_limit_is_done_by_another_process(tmp_path: Path) -> None:
    with make_database_url("postgresql", tmp_path) as url:
        database = Database(url)
        order = make_order(database, reservation=OVER)
        settings = {"APP_ENV": "test", "DATABASE_URL": url, "WORKERS": "1"}
        settings |= {"BROKER_URL": require_broker("rabbitmq")}
        with running_worker(tmp_path, settings, program=STUCK) as process:
            wait_until((tmp_path / "stuck").exists)
            stuck = workers_of(process)
            wait_until(lambda: workers_of(process) not in ([], stuck))
            make_due(database)
            wait_until(lambda: read_order(database, order).status == "expired")
        database.dispose()
    assert stuck == [int((tmp_path / "stuck").read_text())]
    assert "has been silent for 3 seconds and is killed" in (tmp_path / "worker.log").read_text()


def test_a_task_leaves_most_of_the_time_to_requests(tmp_path: Path) -> None:
    begun: list[float] = []

    def work() -> bool:
        begun.append(time.monotonic())
        time.sleep(0.1)
        return len(begun) < 4

    with worker_for(Job("long", 1, work), tmp_path) as worker:
        JobTask(worker, lambda _name: None).run("long", uuid4(), is_helper=True)
    assert all(later - earlier >= 0.3 for earlier, later in itertools.pairwise(begun))


@pytest.mark.parametrize(
    "url", ["kafka://host", "amqp://", "redis://host/first", "amqp://host:0", "redis://"]
)
def test_an_invalid_broker_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^BROKER_URL must be "):
        Settings.from_environment({"BROKER_URL": url})


def test_a_broker_needs_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.server.setting_types.find_spec", lambda _name: None)
    with pytest.raises(
        SettingsError, match=r"^BROKER_URL needs the packages of requirements-all.txt"
    ):
        Settings.from_environment({"BROKER_URL": "amqp://host"})
