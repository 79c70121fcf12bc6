"""Each application has its own metrics, served on the loopback address."""

import os
import signal
import socket
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
from sqlalchemy import select

from api.server.metrics import Metrics
from api.server.processes.serving_metrics import shared_metrics
from app import load
from models.errors import DatabaseUnavailable
from models.identity.user import User
from models.messages.message import Message
from models.storage.database import Database
from models.storage.schema_version import newest_version
from tests.api.commands import failure, make_run
from tests.databases import KINDS, make_database_url
from tests.factories import make_user
from tests.live import HOST, free_port, running_server
from tests.service import Service, running


def test_requests_are_counted_by_operation_and_status() -> None:
    metrics = Metrics()
    metrics.count_request("list_users", 200, 0.004)
    metrics.count_request("list_users", 200, 0.2)
    metrics.count_request("list_users", 403, 0.001)
    lines = metrics.text().splitlines()
    assert 'concord_requests_total{operation="list_users",status="200"} 2.0' in lines
    assert 'concord_requests_total{operation="list_users",status="403"} 1.0' in lines
    assert 'concord_request_duration_seconds_bucket{le="0.005",operation="list_users"} 2.0' in lines
    assert 'concord_request_duration_seconds_count{operation="list_users"} 3.0' in lines


def test_contract_violations_are_counted_by_operation() -> None:
    metrics = Metrics()
    metrics.count_violation("get_user")
    assert 'concord_contract_violations_total{operation="get_user"} 1.0' in metrics.text()


def test_pool_gauges_are_read_at_each_scrape() -> None:
    metrics, use = Metrics(), [1]
    metrics.watch_pool("reads", 4, lambda: use[0])
    assert 'concord_pool_use{pool="reads"} 1.0' in metrics.text()
    use[0] = 7
    lines = metrics.text().splitlines()
    for line in ('use{pool="reads"} 7.0', 'threads{pool="reads"} 4.0', 'waiting{pool="reads"} 3.0'):
        assert f"concord_pool_{line}" in lines


def test_m2_two_applications_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.count_violation("get_user")
    assert "get_user" not in other.text()


def test_metrics_are_served_on_loopback_until_closed() -> None:
    metrics = Metrics()
    metrics.count_violation("get_user")
    with closing(metrics.start_server(0)) as server:
        address = f"http://127.0.0.1:{server.port}/metrics"
        with urlopen(address, timeout=5) as answer:
            assert b'concord_contract_violations_total{operation="get_user"} 1.0' in answer.read()
        with pytest.raises(OSError, match="in use"):
            Metrics().start_server(server.port)
    with pytest.raises(OSError, match="refused"):
        urlopen(address, timeout=5)


def test_a_job_reports_its_last_success_and_its_failures() -> None:
    metrics = Metrics()
    metrics.count_job("mail", succeeded=True)
    for _ in range(2):
        metrics.count_job("mail", succeeded=False)
    text = metrics.text()
    assert 'concord_job_failures_total{job="mail"} 2.0' in text
    [line] = [
        each for each in text.splitlines() if 'last_success_timestamp_seconds{job="mail"' in each
    ]
    assert abs(float(line.split()[1]) - time.time()) < 60


def test_a_configured_port_that_is_taken_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        [line] = failure(
            run(
                "serve",
                METRICS_PORT=port,
                METRICS_HOST="127.0.0.1",
                PORT="0",
                DATABASE_URL="sqlite:///a.db",
                LOG_LEVEL="error",
            )
        )
    assert line == f"METRICS_PORT {port} is in use, or METRICS_HOST is not an address"


def test_a_service_reports_its_build_its_connections_and_its_counters(service: Service) -> None:
    with service.client() as client:
        assert client.get("/v1/products").status_code == 200
    lines = service.app.metrics.text().splitlines()
    assert (
        f'concord_build_info{{schema="{newest_version()}",version="{load().document.version}"}} 1.0'
        in lines
    )
    assert "concord_rate_limits_counted 1.0" in lines
    assert any(line.startswith("concord_open_connections ") for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_waits_for_a_database_connection_are_counted(kind: str, tmp_path: Path) -> None:
    pool, metrics = {"sqlite": "reads", "postgresql": "transactions"}[kind], Metrics()

    def value(name: str, outcome: str = "") -> float:
        start = f'concord_database_{name}{{{outcome}pool="{pool}"}} '
        [line] = [line for line in metrics.text().splitlines() if line.startswith(start)]
        return float(line.removeprefix(start))

    def connections() -> list[float]:
        return [value(f"connections_{name}") for name in ("limit", "open", "used")]

    with make_database_url(kind, tmp_path) as url:
        database = Database(url, pool_size=1, pool_timeout=0.5)
        metrics.watch_database(database)
        assert connections() == [1, 0, 0]
        held = database.pools[pool].connect()
        assert connections() == [1, 1, 1]
        with pytest.raises(DatabaseUnavailable):
            database.read(lambda reader: reader.scalar(select(User.id)))
        assert value("waits_total", 'outcome="timed_out",') == 1
        assert value("wait_seconds_total") == pytest.approx(0.5, abs=0.4)
        held.close()
        # A busy machine may return the connection before the next request for it.
        while not value("waits_total", 'outcome="served",'):
            held = database.pools[pool].connect()
            threading.Timer(0.05, held.close).start()
            database.read(lambda reader: reader.scalar(select(User.id)))
        assert connections() == [1, 1, 0]
        database.dispose()


def test_a_service_reports_the_messages_that_wait(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        user = make_user(database)
        database.transact(partial(Message.enqueue, kind="welcome", user_id=user.id))
        database.dispose()
        dead = f"smtp://{HOST}:{free_port()}"
        with running(tmp_path, url, MAIL_URL=dead) as service:
            until = time.monotonic() + 20
            while "concord_messages_waiting 1.0" not in service.app.metrics.text().splitlines():
                assert time.monotonic() < until
                time.sleep(0.05)
            assert "concord_overdue_orders 0.0" in service.app.metrics.text().splitlines()


def test_rejections_are_counted_by_the_limit_that_rejects(service: Service) -> None:
    with service.client() as client:
        answers = [
            client.get(
                "/v1/profile",
                headers={"Authorization": f"Bearer {number}", "X-Forwarded-For": "192.0.2.77"},
            )
            for number in range(200)
        ]
    rejected = sum(answer.status_code == 429 for answer in answers)
    assert rejected
    line = f'concord_rate_limit_rejections_total{{limit="failed-credentials"}} {rejected:.1f}'
    assert line in service.app.metrics.text().splitlines()


def test_workers_report_one_set_of_series_that_survives_a_restart(tmp_path: Path) -> None:
    port = str(free_port())
    with running_server(tmp_path, WORKERS="2", METRICS_PORT=port, LOG_LEVEL="error") as server:

        def samples() -> dict[str, float]:
            with urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            return {name: float(value) for name, value in pairs}

        def ask(count: int) -> None:
            for _ in range(count):
                with urlopen(f"{server.url}/v1/products", timeout=10) as answer:  # noqa: S310 - our own.
                    assert answer.status == 200

        def wait_for(name: str, value: float) -> None:
            until = time.monotonic() + 60
            while samples().get(name) != value:
                assert time.monotonic() < until, samples()
                time.sleep(0.05)

        counted = 'concord_requests_total{operation="list_products",status="200"}'
        threads = 'concord_pool_threads{pool="reads"}'
        wait_for(threads, 16.0)
        pids = [server.process.pid, *children_of(server.process.pid)]
        found = samples()
        assert found["process_resident_memory_bytes"] == pytest.approx(
            sum(map(resident_bytes, pids)), rel=0.1
        )
        assert found["process_start_time_seconds"] < time.time()
        assert found["process_cpu_seconds_total"] > 0.5
        assert found['concord_database_connections_limit{pool="writes"}'] == 2.0
        ask(20)
        # The response precedes its count by a moment.
        wait_for(counted, 20.0)
        assert 'concord_build_info{schema="' in "\n".join(samples())
        os.kill(children_of(server.process.pid)[0], signal.SIGKILL)
        wait_for(threads, 8.0)
        wait_for(threads, 16.0)
        again = samples()
        assert again[counted] == 20.0
        assert again["process_cpu_seconds_total"] > found["process_cpu_seconds_total"]
        ask(5)
        wait_for(counted, 25.0)


def test_a_scrape_waits_for_a_worker_that_is_creating_its_file() -> None:
    port = free_port()
    with shared_metrics(port, HOST):
        file = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], "counter_1.db")
        file.touch()
        # The header of a file without values.
        begin = threading.Timer(0.05, file.write_bytes, [b"\x08" + bytes(7)])
        begin.start()
        with urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
            assert answer.status == 200
        begin.join()


def resident_bytes(pid: int) -> int:
    """The memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> list[int]:
    """The ids of a process's workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    return [
        int(child) for child, line in zip(children, found, strict=True) if b"spawn_main" in line
    ]
