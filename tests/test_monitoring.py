"""The alert rules and the dashboard of `deploy/monitoring/` use metrics that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml

from api.server.metrics import Metrics

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "deploy" / "monitoring"
[GROUP] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())

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
