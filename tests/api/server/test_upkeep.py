"""Expired data is removed while the service runs, without delaying its exit."""

import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPResponseException

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from api.server.logs import make_logger
from api.server.metrics import Metrics
from api.server.settings import Settings
from api.server.upkeep import Job, Upkeep, report_row
from models.errors import DatabaseUnavailable
from models.identity.user import User
from models.orders.order import Order
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord
from tests.databases import make_database_url
from tests.factories import make_account, make_order, make_user
from tests.service import Service, running

SETTINGS = Settings(app_env="production", database_url="sqlite:///x", signing_key_file=Path("x"))


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@contextmanager
def upkeep(log: io.StringIO, *jobs: Job) -> Iterator[Upkeep]:
    """Jobs that are looked at a hundred times a second."""
    started = Upkeep(jobs, make_logger(SETTINGS, log), pause=0.01)
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


def test_jobs_are_repeated_at_their_intervals(log: io.StringIO) -> None:
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


def test_a_long_job_continues_and_lets_others_run(log: io.StringIO) -> None:
    done: list[str] = []

    def part() -> bool:
        done.append("part")
        return done.count("part") % 5 != 0

    jobs = (Job("long", 60, part), Job("other", 0, lambda: done.append("other")))
    with upkeep(log, *jobs):
        wait_until(lambda: len(done) >= 12)
    assert done[:10] == ["part", "other"] * 5
    assert done.count("part") == 5


@pytest.mark.parametrize("rests", [True, False])
def test_a_long_job_leaves_most_of_the_time_to_requests(*, rests: bool, log: io.StringIO) -> None:
    begun: list[float] = []

    def part() -> bool:
        begun.append(time.monotonic())
        time.sleep(0.1)
        return True

    with upkeep(log, Job("long", 60, part, rests=rests)):
        wait_until(lambda: len(begun) >= 6)
    times = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert min(times) >= 0.3 if rests else min(times) < 0.3


def test_nothing_runs_after_the_end(log: io.StringIO) -> None:
    done: list[None] = []
    with upkeep(log, Job("job", 0, lambda: done.append(None))):
        wait_until(lambda: bool(done))
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count


def test_a_failure_is_logged_once_and_retried(log: io.StringIO) -> None:
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
    assert '"upkeep recovered"' in second
    assert "CANARY" not in log.getvalue()
    assert len(others) >= 5


def test_a_job_that_had_nothing_to_do_has_not_recovered(log: io.StringIO) -> None:
    tries: list[None] = []

    def fail_once() -> None:
        tries.append(None)
        if len(tries) == 1:
            raise SMTPResponseException(454, b"CANARY")

    with upkeep(log, Job("mail", 0, fail_once, lambda: len(tries) > 4)):
        wait_until(lambda: '"upkeep recovered"' in log.getvalue())
    assert len(tries) > 4
    assert '"code":454' in log.getvalue()
    assert "CANARY" not in log.getvalue()


def test_a_row_that_is_set_aside_is_logged_and_counted(
    log: io.StringIO, fresh_service: Service
) -> None:
    metrics, database = Metrics(), fresh_service.app.database
    failure = ValueError("CANARY")
    report_row(make_logger(SETTINGS, log), metrics, database, "files")("row 7", failure)
    for part in ('"level":"warning"', '"job":"files"', '"row":"row 7"', '"cause":"ValueError"'):
        assert part in log.getvalue()
    assert "CANARY" not in log.getvalue()
    assert 'concord_job_rows_set_aside_total{job="files"} 1.0' in metrics.text()


def test_a_slow_job_runs_once_at_a_time_and_does_not_delay_the_exit(log: io.StringIO) -> None:
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


def test_the_service_deletes_expired_idempotency_records(tmp_path: Path) -> None:
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


@pytest.mark.mission("M11")
@pytest.mark.parametrize("setting", [{}, {"UNCLAIMED_SECONDS": "604800"}], ids=["unset", "set"])
def test_unclaimed_accounts_end_if_the_settings_ask_for_it(
    tmp_path: Path, setting: dict[str, str]
) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        user = make_user(database)

        def age(session: Session) -> None:
            session.get_one(User, user.id).created_at = utcnow() - timedelta(days=8)

        def is_erased() -> bool:
            found = database.read(lambda reader: reader.scalar(select(User.erased_at)))
            return found is not None

        def jobs_ran(service: Service) -> bool:
            shown = service.app.metrics.text()
            return 'concord_job_last_success_timestamp_seconds{job="pictures"}' in shown

        database.transact(age, write=True)
        with running(tmp_path, url, **setting) as service:
            wait_until(lambda: jobs_ran(service))
            assert is_erased() is bool(setting)
        database.dispose()


@pytest.mark.mission("M28")
@pytest.mark.parametrize(
    "setting", [{}, {"ORDER_PERSONAL_DATA_SECONDS": "2592000"}], ids=["unset", "set"]
)
def test_old_orders_lose_their_data_if_the_settings_ask_for_it(
    tmp_path: Path, setting: dict[str, str]
) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        make_order(database, status="cancelled", note="Ring.")
        then = utcnow() - timedelta(days=31)

        def age(session: Session) -> None:
            session.execute(update(Order).values(retained_since=then))

        def jobs_ran(service: Service) -> bool:
            shown = service.app.metrics.text()
            return 'concord_job_last_success_timestamp_seconds{job="pictures"}' in shown

        database.transact(age, write=True)
        with running(tmp_path, url, **setting) as service:
            wait_until(lambda: jobs_ran(service))
            note = database.read(lambda reader: reader.scalar(select(Order.note)))
            assert (note is None) is bool(setting)
        database.dispose()
