"""Webhooks a second: `python tests/bench/webhooks.py [--events N] [--processes N]`.

Events wait for one webhook endpoint. Processes of `work` send them to a receiver on this machine
that does nothing but answer. The time runs from the first request to the last. Needs the PostgreSQL
server of the tests. It ends by itself after about a minute.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session
from typing_extensions import override

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from api.credentials.signing import KeyRing
from models.access.secret_box import SecretBox
from models.catalogue.product import Price, Product
from models.events.feed import place_events
from models.storage.database import Database
from models.webhooks.attempts import create_deliveries
from models.webhooks.webhook_endpoint import WebhookEndpoint
from tests.bench.telling import machine, say
from tests.databases import make_database_url
from tests.live import HOST, running_worker

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
LONGEST = 60.0
"""Seconds after which the measurement ends in any case."""


@dataclass
class Arrivals:
    """When requests arrived, and the event that tells that all have."""

    expected: int
    times: list[float] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Receiver(asyncio.Protocol):
    """Answers each request as soon as it is there."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._buffer = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = body[length:]
        self._arrivals.times.append(time.monotonic())
        self._transport.write(ANSWER)
        if len(self._arrivals.times) >= self._arrivals.expected:
            self._arrivals.done.set()


def fill(database: Database, box: SecretBox, url: str, events: int) -> None:
    """Create a webhook endpoint, and events for it."""
    database.transact(partial(WebhookEndpoint.create, box=box, values={"url": url}))

    def create(session: Session, first: int) -> None:
        for number in range(first, min(first + 500, events)):
            price: Price = {"amount": 100, "currency": "USD"}
            Product.create(session, {"sku": f"SKU-{number}", "name": "Mug", "price": price})

    for first in range(0, events, 500):
        database.transact(partial(create, first=first))
    while place_events(database):
        pass
    while create_deliveries(database):
        pass


async def measure(folder: Path, database_url: str, events: int, processes: int) -> list[float]:
    """Return when the requests arrived."""
    arrivals = Arrivals(events)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Receiver, arrivals), HOST, 0)
    port = server.sockets[0].getsockname()[1]
    key_file = folder / "signing-key.pem"
    database = Database(database_url)
    box = SecretBox(KeyRing.load(key_file, create=True).derive("webhooks"))
    await asyncio.to_thread(fill, database, box, f"http://{HOST}:{port}/", events)
    database.dispose()
    settings = {"DATABASE_URL": database_url, "SIGNING_KEY_FILE": str(key_file)}
    with running_worker(folder, {**settings, "WORKERS": str(processes)}):
        await asyncio.wait_for(arrivals.done.wait(), LONGEST)
    server.close()
    return arrivals.times


def main() -> None:
    """Print how many events are delivered a second."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=5000)
    arguments.add_argument("--processes", type=int, default=2)
    given = arguments.parse_args()
    say(machine())
    with (
        tempfile.TemporaryDirectory() as name,
        make_database_url("postgresql", Path(name)) as database_url,
    ):
        times = asyncio.run(measure(Path(name), database_url, given.events, given.processes))
    rate = len(times) / (times[-1] - times[0])
    say(f"{given.processes} processes: {len(times)} requests, {rate:.0f} a second")


if __name__ == "__main__":
    main()
