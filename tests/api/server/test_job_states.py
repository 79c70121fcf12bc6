"""Background jobs are reported to administrators over HTTP (M24)."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.orm import Session

from api.server.logs import make_logger
from api.server.metrics import Metrics
from api.server.settings import Settings
from api.server.upkeep import Job, Reporter, Runner, report_row
from models.jobs.job_state import JobState, ReportedRun, view_jobs
from models.messages.message import Message
from tests.databases import KINDS, make_database_url
from tests.factories import make_user
from tests.live import HOST, free_port
from tests.servers.mail_server import mail_server
from tests.servers.webhook_receiver import wait_for
from tests.service import Service, running

pytestmark = pytest.mark.mission("M24")

SETTINGS = Settings(app_env="production", database_url="sqlite:///x", signing_key_file=Path("x"))


def jobs_of(client: httpx.Client) -> dict[str, dict[str, Any]]:
    answer = client.get("/v1/jobs")
    assert answer.status_code == 200, answer.text
    return {job["name"]: job for job in answer.json()["items"]}


def test_every_job_is_listed_with_its_last_run(service: Service) -> None:
    client = service.admin().client
    names = {job.name for job in service.app.background.jobs} | {"feed"}
    wait_for(lambda: all(job["ended_at"] for job in jobs_of(client).values()))
    jobs = jobs_of(client)
    assert list(jobs) == sorted(names)
    for name, job in jobs.items():
        assert job["started_at"] <= job["ended_at"]
        assert (job["failing_since"], job["cause"], job["set_aside"]) == (None, None, 0)
        assert (job["waiting"] is None) == (name not in {"mail", "orders"})


@pytest.mark.parametrize("kind", KINDS)
def test_mail_that_cannot_be_sent_is_reported_until_it_can(kind: str, tmp_path: Path) -> None:
    port = free_port()
    with (
        make_database_url(kind, tmp_path) as url,
        running(tmp_path, url, MAIL_URL=f"smtp://{HOST}:{port}") as service,
    ):
        client, database = service.admin().client, service.app.database
        user = make_user(database)
        database.transact(partial(Message.enqueue, kind="welcome", user_id=user.id))
        wait_for(lambda: jobs_of(client)["mail"]["failing_since"])
        failing = jobs_of(client)["mail"]
        assert (failing["cause"], failing["waiting"]) == ("ConnectionRefusedError", 1)
        assert failing["failing_since"] <= failing["failed_at"] <= failing["ended_at"]
        with mail_server(port=port):
            wait_for(lambda: not jobs_of(client)["mail"]["failing_since"])
        sent = jobs_of(client)["mail"]
        assert (sent["waiting"], sent["waiting_seconds"]) == (0, 0)
        assert sent["cause"] == "ConnectionRefusedError"


def test_a_row_set_aside_is_counted(service: Service) -> None:
    client = service.admin().client
    log = make_logger(SETTINGS, io.StringIO())
    report_row(log, Metrics(), service.app.database, "pictures")("row 7", ValueError("CANARY"))
    assert jobs_of(client)["pictures"]["set_aside"] == 1


def test_a_job_that_runs_often_is_reported_once_a_minute(
    fresh_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[ReportedRun] = []
    record = JobState.report

    def report(session: Session, run: ReportedRun) -> None:
        reports.append(run)
        record(session, run)

    monkeypatch.setattr(JobState, "report", report)
    log = make_logger(SETTINGS, io.StringIO())
    runner = Runner(log, Metrics(), Reporter(fresh_service.app.database, log))

    def fail() -> None:
        raise OSError

    for work in (lambda: None, fail, lambda: None):
        for _ in range(50):
            runner.attempt(Job("often", 1, work))
    mine = [run for run in reports if run.name == "often"]
    assert [run.failure and run.failure.cause for run in mine] == [None, "OSError", None]


def test_a_process_ends_a_failure_of_another_unless_that_one_must_recover(
    fresh_service: Service,
) -> None:
    database, log = fresh_service.app.database, make_logger(SETTINGS, io.StringIO())
    first, second = (Runner(log, Metrics(), Reporter(database, log)) for _ in range(2))

    def fail() -> None:
        raise OSError

    def deliver() -> bool:
        return True

    for has_recovered, ends in ((None, True), (deliver, False)):
        name = f"ends-{ends}".lower()
        first.attempt(Job(name, 1, fail, has_recovered))
        second.attempt(Job(name, 1, lambda: None, has_recovered))
        [state] = database.read(partial(view_jobs, names=[name]))
        assert (state.failing_since is None) is ends
        assert state.cause == "OSError"
