"""Each application has its own metrics, served on the loopback address."""

import socket
import time
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest

from api.server.metrics import Metrics
from tests.api.commands import failure, make_run


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
    metrics, use = Metrics(), [1, 7]
    metrics.watch_pool("reads", lambda: use.pop(0))
    assert 'concord_pool_use{pool="reads"} 1.0' in metrics.text()
    assert 'concord_pool_use{pool="reads"} 7.0' in metrics.text()


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
