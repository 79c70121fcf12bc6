"""The alert rules and the dashboard of `deploy/monitoring/`, tested with their programs."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from api.server.metrics import Metrics
from tests.clients.running import run
from tests.live import HOST, free_port, running_server
from tests.tools import find_tool, without

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
ALERTS = MONITORING / "alerts.yaml"
[GROUP] = yaml.safe_load(ALERTS.read_text())["groups"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PACKAGES = ROOT / "tests" / "clients" / "node_modules"
FIRED: dict[str, dict[str, str]] = {
    "ConcordErrors": {},
    "ConcordSlow": {},
    "ConcordThreadsBusy": {"pool": "reads"},
    "ConcordDatabaseConnectionsBusy": {"pool": "writes"},
    "ConcordRateLimitsNotCounted": {},
    "ConcordJobFails": {"job": "mail"},
    "ConcordOrdersNotExpired": {},
    "ConcordMailWaits": {},
    "ConcordRowsSetAside": {"job": "orders"},
    "ConcordContractViolated": {"operation": "get_user"},
}
"""The labels of each alert that fires after an hour of `TROUBLE`."""
TROUBLE = {
    'requests_total{status="200"}': "0+97x60",
    'requests_total{status="503"}': "0+3x60",
    'request_duration_seconds_bucket{operation="get_user",le="1.0"}': "0+90x60",
    'request_duration_seconds_bucket{operation="get_user",le="2.5"}': "0+100x60",
    'request_duration_seconds_bucket{operation="get_user",le="+Inf"}': "0+100x60",
    'pool_waiting{pool="reads"}': "3x60",
    'database_wait_seconds_total{pool="writes"}': "0+120x60",
    "rate_limits_counted": "1x60",
    'build_info{schema="0001"}': "2x60",
    'job_failures_total{job="mail"}': "0+1x60",
    'job_last_success_timestamp_seconds{job="orders"}': "60x60",
    "oldest_message_seconds": "1000x60",
    "messages_waiting": "50x60",
    'job_rows_set_aside_total{job="orders"}': "0+1x60",
    'contract_violations_total{operation="get_user"}': "0+1x60",
}
"""Values of metrics, minute by minute, in promtool's notation."""
EMPTY = {
    "Failed requests by operation",
    "Requests rejected by rate limits",
    "Failures of jobs",
    "Payment events",
    "Contract violations",
}
"""Panels that a healthy service without a payment provider leaves empty."""
SECONDS = 60.0

pytestmark = pytest.mark.mission("M32")


def test_every_metric_of_alerts_and_dashboard_exists() -> None:
    told = re.findall(r"# TYPE (\w+) (\w+)", Metrics().text())
    known = {f"{name}_bucket" if kind == "histogram" else name for name, kind in told}
    alerts = [rule["expr"] for rule in GROUP["rules"]]
    panels = [each["expr"] for panel in DASHBOARD["panels"] for each in panel["targets"]]
    for expression in alerts + panels:
        used = set(re.findall(r"concord_\w+", expression))
        assert used
        assert used <= known, expression


def test_every_alert_has_a_line_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "operating.md").read_text()
    described = re.findall(r"(?m)^\| `(Concord\w+)` \| \w", runbook)
    assert described == [rule["alert"] for rule in GROUP["rules"]]


def test_every_alert_fires_in_trouble(tmp_path: Path) -> None:
    promtool = find_tool("promtool")
    expected = [
        {
            "alertname": rule["alert"],
            "eval_time": "1h",
            "exp_alerts": [
                {
                    "exp_labels": rule["labels"] | FIRED[rule["alert"]],
                    "exp_annotations": rule["annotations"],
                }
            ],
        }
        for rule in GROUP["rules"]
    ]
    series = [{"series": f"concord_{name}", "values": values} for name, values in TROUBLE.items()]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": expected}
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": [test]}))
    run((promtool, "check", "rules", ALERTS), cwd=tmp_path)
    run((promtool, "test", "rules", file), cwd=tmp_path)


@pytest.mark.node
def test_the_dashboard_has_the_types_of_grafana(tmp_path: Path) -> None:
    node = find_tool("node", "nodejs")
    if not (PACKAGES / "@grafana" / "schema").exists():
        without("the packages in tests/clients/package.json are not installed: run `make test`")
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "dashboard.ts").write_text(
        'import type { Dashboard } from "@grafana/schema";\n'
        f"export const dashboard: Dashboard = {json.dumps(DASHBOARD)};\n"
    )
    options = ("--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler")
    compiler = PACKAGES / "typescript" / "bin" / "tsc"
    run((node, compiler, *options, "--module", "esnext", "dashboard.ts"), cwd=tmp_path)


@contextmanager
def running_prometheus(folder: Path, port: int) -> Iterator[httpx.Client]:
    """Scrape the metrics on a port every second, and evaluate the alerts."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {"job_name": "concord", "static_configs": [{"targets": [f"{HOST}:{port}"]}]}
        ],
    }
    file, own = folder / "prometheus.yaml", f"{HOST}:{free_port()}"
    file.write_text(yaml.safe_dump(config))
    options = (f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={own}")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command.
            [find_tool("prometheus"), f"--config.file={file}", *options], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://{own}") as client:
            until = time.monotonic() + SECONDS
            while not _is_ready(client):
                assert time.monotonic() < until, (folder / "prometheus.log").read_text()
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(prometheus: httpx.Client) -> bool:
    try:
        return prometheus.get("/-/ready").is_success
    except httpx.TransportError:
        return False


def test_prometheus_finds_every_panel_and_no_alert_in_a_healthy_service(tmp_path: Path) -> None:
    wanted = {
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }
    missing, until, port = set(wanted), time.monotonic() + SECONDS, free_port()
    with (
        running_server(tmp_path, METRICS_PORT=str(port), LOG_LEVEL="error") as server,
        running_prometheus(tmp_path, port) as prometheus,
    ):
        while {title for title, _ in missing} != EMPTY:
            assert time.monotonic() < until, (missing, (tmp_path / "prometheus.log").read_text())
            assert httpx.get(f"{server.url}/v1/products").status_code == 200
            for title, expression in sorted(missing):
                found = prometheus.get("/api/v1/query", params={"query": expression}).json()
                assert found["status"] == "success", (expression, found)
                if found["data"]["result"]:
                    missing.discard((title, expression))
            time.sleep(0.2)
        [group] = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    assert {(rule["health"], rule["state"]) for rule in group["rules"]} == {("ok", "inactive")}
