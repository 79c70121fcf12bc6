"""Alive is not ready: what each of the two questions is answered, and when (MISSION M17)."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from tests.api.accounts import bearer, make_account, token_for
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.models.relay import Relay, relay_to
from tests.service import Service, running

pytestmark = pytest.mark.mission("M17")

READY = {"status": "ready", "checks": [{"name": "database", "status": "ok"}]}


def test_a_process_that_runs_is_alive(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}


def test_a_service_whose_database_answers_is_ready(client: httpx.Client) -> None:
    assert client.get("/health/ready").json() == READY


@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
)
def test_a_database_that_nobody_has_migrated_is_not_ready(tmp_path: Path, kind: str) -> None:
    with (
        make_database_url(kind, tmp_path, migrated=False) as url,
        running(tmp_path, url) as service,
    ):
        answer = service.client().get("/health/ready")
        assert (answer.status_code, problem(answer)) == (503, "database-unavailable")
        assert service.client().get("/health").status_code == 200


def test_a_service_that_is_about_to_stop_is_alive_and_serves_and_is_not_ready(
    fresh_service: Service,
) -> None:
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
def test_without_its_database_a_service_is_alive_and_says_so_within_seconds(
    relay: tuple[Service, Relay, str],
) -> None:
    service, way, _ = relay
    client = service.client()
    headers = bearer(token_for(service, make_account(service)))
    assert client.get("/v1/profile", headers=headers).status_code == 200
    way.freeze()
    time.sleep(0.6)  # Until what is known of the account has to be asked again.
    for path in ("/health/ready", "/v1/profile"):
        began = time.monotonic()
        answer = client.get(path, headers=headers)
        assert (answer.status_code, problem(answer)) == (503, "database-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - began < 10
        began = time.monotonic()
        assert client.get("/health").status_code == 200
        assert time.monotonic() - began < 1
    way.thaw()
    assert seconds_until_ready(client) < 5
    assert client.get("/v1/profile", headers=headers).status_code == 200


@pytest.mark.postgresql
@pytest.mark.mission("M20")
def test_a_restart_of_the_database_is_got_over(relay: tuple[Service, Relay, str]) -> None:
    service, _, url = relay
    client = service.client()
    headers = bearer(token_for(service, make_account(service)))
    assert client.get("/v1/profile", headers=headers).status_code == 200
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert client.get("/v1/profile", headers=headers).status_code == 200
    assert seconds_until_ready(client) < 5
