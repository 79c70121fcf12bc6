"""The state of each job, combined from the reports of several processes (M24)."""

from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest

from models.jobs.job_state import Failure, JobState, JobView, ReportedRun, RowSetAside, view_jobs
from models.storage.base import utcnow
from models.storage.database import Database
from tests.models.together import together

pytestmark = pytest.mark.mission("M24")

SINCE = utcnow() - timedelta(minutes=5)
FAILURE = Failure(SINCE, SINCE + timedelta(minutes=1), "OSError")
MINUTE = timedelta(minutes=1)


def report(
    database: Database,
    reporter: UUID,
    failure: Failure | None = None,
    *,
    patience: timedelta = MINUTE,
) -> JobView:
    """Report a run, and return the state of the job after it."""
    now = utcnow()
    run = ReportedRun("orders", now - MINUTE, now, reporter, failure, now - patience)
    database.transact(partial(JobState.report, run=run))
    [found] = database.read(partial(view_jobs, names=["orders"]))
    assert (found.started_at, found.ended_at) == (now - MINUTE, now)
    return found


def test_a_job_without_a_report_has_no_times(database: Database) -> None:
    jobs = database.read(partial(view_jobs, names=["orders", "mail", "links"]))
    assert jobs == [
        JobView("links", None, None, None, None, None, None, None, 0),
        JobView("mail", None, None, None, None, None, 0, 0, 0),
        JobView("orders", None, None, None, None, None, 0, 0, 0),
    ]


def test_a_failure_lasts_until_its_process_recovers(database: Database) -> None:
    failing, other = uuid4(), uuid4()
    assert report(database, failing).failing_since is None
    assert report(database, failing, FAILURE).failing_since == SINCE
    later = FAILURE._replace(since=utcnow(), last=utcnow(), cause="ValueError")
    found = report(database, failing, later)
    assert (found.failing_since, found.failed_at, found.cause) == (SINCE, later.last, "ValueError")
    # The job still fails in one of the processes.
    assert report(database, other).failing_since == SINCE
    recovered = report(database, failing)
    assert (recovered.failing_since, recovered.cause) == (None, "ValueError")
    assert recovered.failed_at == later.last


def test_the_failure_of_a_dead_process_ends_with_the_success_of_another(
    database: Database,
) -> None:
    assert report(database, uuid4(), FAILURE).failing_since == SINCE
    assert report(database, uuid4()).failing_since == SINCE
    assert report(database, uuid4(), patience=-MINUTE).failing_since is None


def test_simultaneous_reports_are_one_row(database: Database) -> None:
    run = ReportedRun("orders", SINCE, SINCE, uuid4(), FAILURE, SINCE)
    work = partial(JobState.report, run=run)
    assert together(*[lambda: database.transact(work)] * 4) == [None] * 4
    assert report(database, run.reporter).failing_since is None


def test_rows_set_aside_are_counted_once_for_an_hour(database: Database) -> None:
    for key in ("1", "2", "2", "x" * 300):
        database.transact(partial(RowSetAside.record, job="orders", key=key))
    database.transact(partial(RowSetAside.record, job="pictures", key="1"))
    jobs = database.read(partial(view_jobs, names=["orders", "pictures"]))
    assert [job.set_aside for job in jobs] == [3, 1]
