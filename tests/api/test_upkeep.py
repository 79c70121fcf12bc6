"""What has run out is put in order while the service runs, and never keeps it from ending."""

import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.logs import make_logger
from api.settings import Settings
from api.upkeep import Job, Upkeep
from models.base import utcnow
from models.errors import DatabaseUnavailable
from models.idempotency import IdempotencyRecord
from tests.api.accounts import make_account
from tests.databases import make_database_url
from tests.service import running


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@contextmanager
def upkeep(log: io.StringIO, *jobs: Job) -> Iterator[Upkeep]:
    """Jobs that are looked at a hundred times a second."""
    settings = Settings(
        app_env="production", database_url="sqlite:///x", signing_key_file=Path("x")
    )
    started = Upkeep(jobs, make_logger(settings, log), pause=0.01)
    started.start()
    try:
        yield started
    finally:
        started.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_jobs_are_done_again_and_again_as_often_as_they_say(log: io.StringIO) -> None:
    often: list[float] = []
    seldom: list[float] = []
    jobs = (
        Job("often", 0, lambda: often.append(time.monotonic())),
        Job("seldom", 0.2, lambda: seldom.append(time.monotonic())),
    )
    with upkeep(log, *jobs):
        wait_until(lambda: len(seldom) >= 3)
    assert len(often) > len(seldom)
    assert all(later - earlier >= 0.19 for earlier, later in itertools.pairwise(seldom))


def test_nothing_is_done_after_the_end(log: io.StringIO) -> None:
    done: list[None] = []
    with upkeep(log, Job("job", 0, lambda: done.append(None))):
        wait_until(lambda: bool(done))
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count


def test_what_fails_is_said_once_without_values_and_tried_again(log: io.StringIO) -> None:
    tries: list[None] = []
    others: list[None] = []

    def fail() -> None:
        tries.append(None)
        if len(tries) < 4:
            raise DatabaseUnavailable from ValueError("CANARY")

    jobs = (Job("failing", 0, fail), Job("other", 0, lambda: others.append(None)))
    with upkeep(log, *jobs):
        wait_until(lambda: len(tries) >= 6)

    first, second = log.getvalue().splitlines()
    for part in ('"level":"warning"', '"job":"failing"', '"cause":"ValueError"'):
        assert part in first
    assert '"upkeep works again"' in second
    assert "CANARY" not in log.getvalue()
    assert len(others) >= 5


def test_a_job_that_takes_long_is_done_once_at_a_time_and_does_not_delay_the_end(
    log: io.StringIO,
) -> None:
    go = threading.Event()
    begun: list[None] = []

    def wait() -> None:
        begun.append(None)
        go.wait(30)

    with upkeep(log, Job("long", 0, wait)) as started:
        wait_until(lambda: bool(begun))
        before = time.monotonic()
        started.stop()
        assert time.monotonic() - before < 2
    assert len(begun) == 1
    go.set()


def test_the_service_forgets_answers_in_time(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url) as service:
        user = make_account(service)

        def store(session: Session) -> None:
            for key, age in (("old", 86_401), ("new", 86_000)):
                record = IdempotencyRecord(
                    user_id=user.id,
                    key=key,
                    fingerprint=b"",
                    status=200,
                    headers=[],
                    body=b"",
                    created_at=utcnow() - timedelta(seconds=age),
                )
                session.add(record)

        def kept(session: Session) -> int | None:
            return session.scalar(select(func.count()).select_from(IdempotencyRecord))

        service.app.database.transact(store, write=True)
        wait_until(lambda: service.app.database.transact(kept, write=False) == 1)
