"""Background work is done by the service itself, or by processes of its own (M24)."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from api.server.settings import Settings
from app import create_app
from models.jobs.job_run import JobRun
from models.messages.message import Message
from models.storage.base import utcnow
from models.storage.database import Database
from tests.databases import KINDS, make_database_url
from tests.factories import make_order, make_user
from tests.live import HOST, running_worker
from tests.models.books import check_books
from tests.models.reading import read_order
from tests.servers.mail_server import Inbox, mail_server
from tests.service import running

pytestmark = pytest.mark.mission("M24")

OTHERS = {True: ("orders", "mail", "webhooks"), False: ()}
OVER = timedelta(seconds=-1)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with make_database_url(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.dispose()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with mail_server() as inbox:
        yield inbox


@pytest.fixture
def settings(url: str, inbox: Inbox) -> Mapping[str, str]:
    return {
        "APP_ENV": "test",
        "DATABASE_URL": url,
        "MAIL_URL": f"smtp://{HOST}:{inbox.port}",
    }


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def welcome(database: Database, number: int) -> None:
    for _ in range(number):
        user = make_user(database)
        database.transact(partial(Message.enqueue, kind="welcome", user_id=user.id))


def make_due(database: Database) -> None:
    """Let the leases of all messages and jobs be over."""
    for table in (Message, JobRun):
        query = update(table).values(due_at=utcnow())
        database.transact(partial(Session.execute, statement=query))


def waiting(database: Database) -> int:
    query = select(func.count()).select_from(Message)
    return database.transact(lambda session: session.scalars(query).one(), write=False)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_processes_of_work_do_the_background_work(
    workers: str, database: Database, settings: Mapping[str, str], inbox: Inbox, tmp_path: Path
) -> None:
    welcome(database, 1)
    order = make_order(database, reservation=OVER)
    with running_worker(tmp_path, {**settings, "WORKERS": workers}):
        wait_until(lambda: waiting(database) == 0)
        wait_until(lambda: read_order(database, order).status == "expired")
    assert len(inbox.messages) == 1
    check_books(database)


def test_a_worker_that_is_stopped_sends_nothing_twice(
    database: Database, settings: Mapping[str, str], inbox: Inbox, tmp_path: Path
) -> None:
    welcome(database, 100)
    with running_worker(tmp_path, settings) as process:
        wait_until(lambda: len(inbox.messages) > 5)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    sent = {message["Message-ID"] for message in inbox.messages}
    assert len(sent) == len(inbox.messages) == 100 - waiting(database)


def test_a_process_without_a_mail_server_leaves_messages_to_others(tmp_path: Path) -> None:
    values = {"APP_ENV": "test", "DATABASE_URL": f"sqlite:///{tmp_path / 'concord.db'}"}
    values |= {"SIGNING_KEY_FILE": str(tmp_path / "key.pem")}
    settings = Settings.from_environment(values)
    for mail_url in (None, "smtp://mail.example"):
        with closing(create_app(settings.model_copy(update={"mail_url": mail_url}))) as app:
            jobs = {job.name for job in app.background.jobs}
            assert ("mail" in jobs) == (mail_url is not None)


@pytest.mark.parametrize("does_upkeep", [True, False])
def test_a_service_leaves_the_work_to_others_if_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, does_upkeep: bool
) -> None:
    monkeypatch.setattr("tests.service.create_app", partial(create_app, does_upkeep=does_upkeep))

    def working() -> set[str]:
        names = {thread.name.removeprefix("upkeep ") for thread in threading.enumerate()}
        return names & {"readiness", "feed", "orders", "mail", "webhooks"}

    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url):
        assert working() == {"readiness", "feed", *OTHERS[does_upkeep]}
