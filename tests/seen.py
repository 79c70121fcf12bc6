"""Which answers of which operations the tests have seen, counted by the services themselves.

Each service's metrics are read when it stops. The processes of one test run write what they saw
into one folder, and the run is compared with the contract at its end (`tests/conftest.py`).
"""

import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from api.server.metrics import Metrics
from tests.our_document import our_document

FOLDER = "CONCORD_SEEN_FOLDER"
"""The variable that names the folder; it is set by the process that starts the run."""

_SAMPLE = re.compile(r'concord_requests_total\{operation="(\w+)",status="(\d+)"\}')
PROVOKED_ELSEWHERE = {"500", "503"}


def note_seen(metrics: Metrics) -> None:
    """Keep what an application answered while it ran."""
    note_pairs(_SAMPLE.findall(metrics.text()))


def note_pairs(pairs: list[tuple[str, str]]) -> None:
    """Keep pairs of operation and status."""
    folder = os.environ.get(FOLDER)
    if folder:
        (Path(folder) / f"{uuid.uuid4().hex}.json").write_text(json.dumps(pairs))


def seen_pairs(folder: Path) -> set[tuple[str, str]]:
    """Return every pair that any process of the run kept."""
    return {
        (operation, status)
        for file in folder.glob("*.json")
        for operation, status in json.loads(file.read_text())
        if operation != "unmatched"
    }


def declared_pairs() -> set[tuple[str, str]]:
    """Return every pair of operation and status that the contract declares."""
    return set(_declared())


def _declared() -> Iterator[tuple[str, str]]:
    bundle = our_document().bundle
    for item in bundle["paths"].values():
        for declared in item.values():
            if isinstance(declared, dict) and "operationId" in declared:
                for status in declared["responses"]:
                    yield declared["operationId"], status


def table(declared: set[tuple[str, str]], seen: set[tuple[str, str]]) -> Iterator[str]:
    """Yield a line an operation: what was seen, and in brackets what was not."""
    for operation in sorted({operation for operation, _ in declared | seen}):
        statuses = sorted(status for name, status in declared | seen if name == operation)
        cells = (status if (operation, status) in seen else f"[{status}]" for status in statuses)
        yield f"{operation:<20} {' '.join(cells)}"
