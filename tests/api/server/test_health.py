"""Liveness and readiness: the response of each check, and when it changes (MISSION M17)."""

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url, text

from api.server.logs import make_logger
from api.server.readiness import Readiness
from api.server.settings import Settings
from models.storage.database import Database
from models.storage.schema_version import newest_version
from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import make_account
from tests.models.relay import Relay, relay_to
from tests.service import Service, running

pytestmark = pytest.mark.mission("M17")

STRANGERS = 12
READY = {"status": "ready", "checks": [{"name": "database", "status": "ok"}]}


def test_a_running_process_is_alive(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}


def test_a_service_with_a_working_database_is_ready(client: httpx.Client) -> None:
    assert client.get("/health/ready").json() == READY


@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def test_a_database_without_migrations_is_not_ready(tmp_path: Path, kind: str) -> None:
    with (
        make_database_url(kind, tmp_path, migrated=False) as url,
        running(tmp_path, url) as service,
    ):
        answer = service.client().get("/health/ready")
        assert (answer.status_code, problem(answer)) == (503, "database-unavailable")
        assert service.client().get("/health").status_code == 200


@pytest.mark.parametrize(
    ("version", "cause"),
    [
        ("9999", ""),
        ("9999_since_0001", ""),
        ("0001", "run the command migrate"),
        ("9999_since_9000", "start the release"),
        ("0c0ffee", "not a version of Concord"),
    ],
)
def test_readiness_compares_the_schema_with_the_release(
    tmp_path: Path, version: str, cause: str
) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database, log = Database(url), io.StringIO()
        readiness = Readiness(database, make_logger(Settings(app_env="test"), log))
        set_version(database, version)
        for _ in range(3):
            readiness.check()
        assert bool(readiness) is not bool(cause)
        # The cause is logged once, however often the database is checked.
        assert log.getvalue().count("not ready") == bool(cause)
        assert cause in log.getvalue()
        set_version(database, newest_version())
        readiness.check()
        assert readiness
        assert log.getvalue().count("ready again") == bool(cause)
        database.dispose()


def set_version(database: Database, version: str) -> None:
    statement = text("UPDATE alembic_version SET version_num = :version")
    database.transact(lambda session: session.execute(statement, {"version": version}))


def test_health_checks_are_not_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url) as service:
        for path in ("/health", "/health/ready", "/v1/divide?a=1&b=2"):
            assert service.client().get(path).status_code == 200
    logged = capfd.readouterr().err
    assert "operation=divide" in logged
    assert "operation=get_health" not in logged
    assert "operation=get_readiness" not in logged


def test_a_stopping_service_serves_but_is_not_ready(fresh_service: Service) -> None:
    client = fresh_service.client()
    fresh_service.app.draining.set()
    answer = client.get("/health/ready")
    assert (answer.status_code, problem(answer)) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    assert "stopping" in answer.json()["detail"]
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/v1/divide?a=1&b=2").status_code == 200
    fresh_service.app.draining.clear()
    assert client.get("/health/ready").json() == READY


def test_readiness_checks_by_many_clients_cost_no_query(
    fresh_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    fault = Database.fault

    def slow(database: Database) -> str | None:
        # Another service of this process asks its own.
        if database is fresh_service.app.database:
            asked.append(time.monotonic())
            time.sleep(0.1)
        return fault(database)

    monkeypatch.setattr(Database, "fault", slow)
    clients = [fresh_service.client() for _ in range(STRANGERS)]
    began = time.monotonic()

    def ask(client: httpx.Client) -> set[int]:
        return {client.get("/health/ready").status_code for _ in range(50)}

    with ThreadPoolExecutor(STRANGERS) as pool:
        assert set().union(*pool.map(ask, clients)) == {200}
    assert len(asked) <= time.monotonic() - began + 1


def test_a_hanging_database_is_reported_at_once(
    fresh_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, hung = threading.Event(), threading.Event()

    def hang(_: Database) -> str | None:
        hung.set()
        hanging.wait(30)
        return None

    client = fresh_service.client()
    assert client.get("/health/ready").json() == READY
    monkeypatch.setattr(Database, "fault", hang)
    assert hung.wait(10)
    until = time.monotonic() + 10
    answers: list[httpx.Response] = []
    try:
        while not answers or answers[-1].status_code == 200:
            assert time.monotonic() < until
            answers.append(client.get("/health/ready", timeout=1))
            time.sleep(0.05)
    finally:
        hanging.set()
    assert problem(answers[-1]) == "database-unavailable"
    assert seconds_until_ready(client) < 5


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[tuple[Service, Relay, str]]:
    """A service whose way to its database can be cut."""
    with make_database_url("postgresql", tmp_path) as url:
        parts = make_url(url)
        with relay_to(parts.host or "127.0.0.1", parts.port or 5432) as relay:
            way = parts.set(host="127.0.0.1", port=relay.port)
            with running(tmp_path, way.render_as_string(hide_password=False)) as service:
                yield service, relay, url
                relay.thaw()


def seconds_until_ready(client: httpx.Client) -> float:
    began = time.monotonic()
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.postgresql
@pytest.mark.mission("M8")
@pytest.mark.mission("M20")
def test_a_service_without_its_database_is_alive_but_not_ready(
    relay: tuple[Service, Relay, str],
) -> None:
    service, way, _ = relay
    client = service.client()
    headers = bearer(token_for(service, make_account(service)))
    assert client.get("/v1/profile", headers=headers).status_code == 200
    way.freeze()
    time.sleep(0.6)  # Until what is known of the account has to be asked again.
    for path, patience in (("/v1/profile", 10), ("/health/ready", 1)):
        began = time.monotonic()
        answer = client.get(path, headers=headers)
        assert (answer.status_code, problem(answer)) == (503, "database-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - began < patience
        began = time.monotonic()
        assert client.get("/health").status_code == 200
        assert time.monotonic() - began < 1
    way.thaw()
    assert seconds_until_ready(client) < 5
    assert client.get("/v1/profile", headers=headers).status_code == 200


@pytest.mark.postgresql
@pytest.mark.mission("M20")
def test_the_service_recovers_from_a_database_restart(relay: tuple[Service, Relay, str]) -> None:
    service, _, url = relay
    client = service.client()
    headers = bearer(token_for(service, make_account(service)))
    assert client.get("/v1/profile", headers=headers).status_code == 200
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    time.sleep(0.2)  # Until the relay has passed on that the connections were closed.
    assert client.get("/v1/profile", headers=headers).status_code == 200
    assert seconds_until_ready(client) < 5
