"""Processes that send webhooks are killed or stopped: every event still arrives (M31)."""

import json
import signal
import time
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select, update

from api.credentials.signing import KeyRing
from models.access.secret_box import SecretBox
from models.storage.base import utcnow
from models.storage.database import Database
from models.webhooks.delivery import Delivery
from models.webhooks.webhook_endpoint import WebhookChanges, WebhookEndpoint
from tests.databases import KINDS, make_database_url
from tests.factories import make_product
from tests.faults.killed_server import killed_server
from tests.live import free_port, running_server
from tests.servers.webhook_receiver import Receiver, receiving, wait_for

pytestmark = pytest.mark.mission("M31")

KILLS = 2
EVENTS = 60
"""Events before each kill: several batches of deliveries."""
STOP_SECONDS = 8.0
"""Time limit for stopping. An attempt may take twice as long."""


def make_endpoint(database: Database, key_file: Path, receiver: Receiver) -> None:
    box = SecretBox(KeyRing.load(key_file, create=True).derive("webhooks"))
    values: WebhookChanges = {"url": f"{receiver.url}/", "types": ["product.create"]}
    database.transact(partial(WebhookEndpoint.create, box=box, values=values))


def expire_leases(database: Database) -> None:
    """Let the minute pass for which a dead process has leased deliveries."""
    moved = update(Delivery).where(Delivery.status == "pending")
    due = moved.values(due_at=utcnow() - timedelta(seconds=1))
    database.transact(lambda session: session.execute(due))


def has_received(receiver: Receiver, count: int) -> bool:
    return len(receiver.received) >= count


def statuses(database: Database) -> Counter[str]:
    query = select(Delivery.status)
    return Counter(database.read(lambda reader: reader.scalars(query).all()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_loses_no_delivery(kind: str, tmp_path: Path) -> None:
    port = free_port()
    with make_database_url(kind, tmp_path) as url, receiving() as receiver:
        database = Database(url)
        make_endpoint(database, tmp_path / "signing-key.pem", receiver)
        receiver.seconds = 0.02
        for kill in range(1, KILLS + 1):
            for _ in range(EVENTS):
                make_product(database)
            # In each life, the process dies during another batch.
            last = len(receiver.received) + kill * EVENTS // 4
            with killed_server(tmp_path, port, url):
                wait_for(partial(has_received, receiver, last))
            expire_leases(database)
        with killed_server(tmp_path, port, url):
            wait_for(lambda: statuses(database) == {"delivered": KILLS * EVENTS})
        database.dispose()
    bodies = [json.loads(each.body) for each in receiver.received]
    assert len({each["subject"] for each in bodies}) == KILLS * EVENTS
    # A repeated event has the same id.
    assert len({each["id"] for each in bodies}) == KILLS * EVENTS
    assert [each["id"] for each in bodies] == [
        each.headers["Webhook-Id"] for each in receiver.received
    ]


def test_a_slow_receiver_does_not_prevent_the_exit(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url, receiving() as receiver:
        database = Database(url)
        key_file = tmp_path / "signing-key.pem"
        make_endpoint(database, key_file, receiver)
        make_product(database)
        receiver.seconds = 2 * STOP_SECONDS
        settings = {"APP_ENV": "test", "DATABASE_URL": url, "SIGNING_KEY_FILE": str(key_file)}
        with running_server(tmp_path, **settings) as server:
            wait_for(lambda: receiver.received)
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(2 * STOP_SECONDS)
            assert time.monotonic() - begun < STOP_SECONDS
        assert statuses(database) == {"pending": 1}
        database.dispose()
