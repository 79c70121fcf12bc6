"""The thread that sends webhooks (M31)."""

import threading
from pathlib import Path

import pytest
import structlog

from api.outbound.deliverer import Deliverer
from api.server.metrics import Metrics
from models.access.secret_box import SecretBox
from models.storage.database import Database

pytestmark = pytest.mark.mission("M31")


def test_it_stops_without_waiting_for_its_next_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.outbound.deliverer.PAUSE", 3600)
    asked = threading.Event()

    def is_ready() -> bool:
        asked.set()
        return False

    deliverer = Deliverer(
        Database(f"sqlite:///{tmp_path / 'concord.db'}"),
        SecretBox(bytes(32)),
        structlog.get_logger(),
        Metrics(),
        ready=is_ready,
        public=True,
    )
    before = set(threading.enumerate())
    deliverer.start()
    assert asked.wait(30)
    deliverer.stop(30)

    assert set(threading.enumerate()) <= before
