"""Serve the library, have schemathesis fuzz it in this process, and print what happened as JSON."""

import json
import sys
from collections import Counter
from collections.abc import Iterator

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import CheckNode

from tests.contract.example.library import make_library

# Also 413, which a file that is too large leads to.
REFUSALS = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429]
CONFIGURATION = {
    "checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}},
    "seed": 1,
    "headers": {"X-Reader-Card": "card-of-ada"},
    "generation": {"max-examples": 10, "database": "none"},
    "cache": {"enabled": False},
    "suppress-health-check": ["too_slow"],
}


def main() -> None:
    """Fuzz every operation in all phases but walks along links, of which there are none."""
    config = SchemathesisConfig.from_dict(CONFIGURATION)
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_library(), config=config)
    statuses: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    faults: list[str] = []
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                recorder = event.recorder
                for interaction in recorder.interactions.values():
                    if interaction.response is not None:
                        statuses[f"{recorder.label}: {interaction.response.status_code}"] += 1
                for check in _checks(event):
                    checks[check.name] += 1
                    if check.status is not Status.SUCCESS:
                        faults.append(f"{recorder.label}: {check.name}: {check.failure_info}")
            case events.NonFatalError() | events.FatalError():
                faults.append(repr(event))
    told = {"statuses": statuses, "checks": checks, "faults": faults, "modules": list(sys.modules)}
    sys.stdout.write(json.dumps(told))


def _checks(event: events.ScenarioFinished) -> Iterator[CheckNode]:
    for checks in event.recorder.checks.values():
        yield from checks


if __name__ == "__main__":
    main()
