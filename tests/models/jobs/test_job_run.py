"""A scheduled job runs once at a time, and goes on if a run is lost (M24)."""

from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from models.jobs.job_run import JobRun
from models.storage.base import utcnow
from models.storage.database import Database
from tests.models.together import together

pytestmark = pytest.mark.mission("M24")

MINUTE = timedelta(minutes=1)


def begins(database: Database, run_id: UUID, name: str = "orders") -> bool:
    if not database.read(partial(JobRun.is_due, name=name, run_id=run_id)):
        return False
    return database.transact(partial(JobRun.begin, name=name, run_id=run_id))


def test_one_of_several_runs_begins(database: Database) -> None:
    for name in ("orders", "mail"):
        begun = together(*[lambda name=name: begins(database, uuid4(), name)] * 4)
        assert sorted(begun, key=str) == [False, False, False, True]


def test_the_next_run_begins_after_the_pause(database: Database) -> None:
    for pause, is_due in ((MINUTE, False), (timedelta(), True)):
        name, first = f"after {pause}", uuid4()
        assert begins(database, first, name)
        database.transact(partial(JobRun.end, name=name, run_id=first, pause=pause))
        assert begins(database, uuid4(), name) is is_due


def test_a_run_whose_process_died_begins_again_and_is_not_missed(database: Database) -> None:
    lost = uuid4()
    assert begins(database, lost)
    # The broker hands out its message again.
    assert begins(database, lost)
    # Its message is lost, too.
    assert not begins(database, uuid4())
    database.transact(lambda session: session.execute(update(JobRun).values(due_at=utcnow())))
    assert begins(database, uuid4())
    # It comes to life again, and does not end the run of another.
    database.transact(partial(JobRun.end, name="orders", run_id=lost, pause=timedelta()))
    assert not begins(database, uuid4())
