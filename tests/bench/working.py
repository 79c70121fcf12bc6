"""Measures the background work: `python tests/bench/working.py [--orders N] [--messages N]`.

Processes of `python app.py work` expire overdue orders and send messages to a server that accepts
everything at once, on PostgreSQL (TEST_POSTGRESQL_URL) or SQLite. The time runs from the first row
that is done to the last one, so it excludes the start of the processes. With `--requests`, a
customer reads and orders the same products before and while orders expire. The bench ends by
itself.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import asyncio
import itertools
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.catalogue.product import Product
from models.identity.user import User
from models.messages.message import Message
from models.orders.order import Order
from models.orders.order_line import OrderLine
from models.storage.base import Base, utcnow
from models.storage.database import Database
from models.storage.identifiers import new_id
from tests.bench.stuck import address
from tests.bench.telling import say
from tests.databases import make_database_url
from tests.factories import make_product, make_user
from tests.faults.live_shop import Shop, open_shop, order_of
from tests.live import HOST, PROGRAM, running_program, running_worker

_PRODUCTS = 50
_ROWS = 1000
_SECONDS = 600.0
_PEOPLE = 101
_IDLE_SECONDS = 15.0
_THINK_SECONDS = 0.01
_ANSWERS = {b"EHLO": b"250-sink\r\n250 8BITMIME\r\n", b"DATA": b"354 Go on\r\n"}


async def _accept(
    accepted: "Synchronized[int]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Accept and count every message, without looking at it."""
    writer.write(b"220 sink\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        writer.write(_ANSWERS.get(verb, b"250 OK\r\n"))
        if verb == b"DATA":
            await reader.readuntil(b"\r\n.\r\n")
            accepted.value += 1
            writer.write(b"250 OK\r\n")
    writer.close()


def _serve(ready: Connection, accepted: "Synchronized[int]") -> None:
    async def serve() -> None:
        server = await asyncio.start_server(partial(_accept, accepted), HOST, 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def mail_sink() -> Iterator[tuple[int, "Synchronized[int]"]]:
    """Serve SMTP in a process of its own, and give its port and the number of messages."""
    ours, theirs = multiprocessing.Pipe()
    accepted: Synchronized[int] = multiprocessing.Value("i", 0)
    process = multiprocessing.Process(target=_serve, args=(theirs, accepted))
    process.start()
    try:
        yield ours.recv(), accepted
    finally:
        process.kill()
        process.join()


def make_overdue(database: Database, count: int) -> None:
    """Place orders of one unit for a few products, all of which are overdue."""
    buyer = make_user(database)
    products = [make_product(database, stock=count).id for _ in range(_PRODUCTS)]
    past = utcnow() - timedelta(hours=1)
    for start in range(0, count, _ROWS):
        numbers = [(new_id(), products[n % _PRODUCTS]) for n in range(start, start + _ROWS)]
        order = {"user_id": buyer.id, "status": "pending", "currency": "EUR", "total_amount": 1500}
        order |= {"labels": {}, "created_at": past, "updated_at": past, "version": 1}
        orders = [order | {"id": each, "expires_at": past} for each, _ in numbers]
        line = {"number": 0, "sku": "SKU", "name": "T-shirt", "unit_amount": 1500}
        line |= {"currency": "EUR", "quantity": 1}
        lines = [line | {"order_id": each, "product_id": product} for each, product in numbers]
        database.transact(partial(_insert, table=Order, rows=orders))
        database.transact(partial(_insert, table=OrderLine, rows=lines))
    reserved = select(func.count()).where(OrderLine.product_id == Product.id).scalar_subquery()
    database.transact(lambda session: session.execute(update(Product).values(reserved=reserved)))


def make_messages(database: Database, count: int) -> None:
    """Queue a message for each of many accounts."""
    now = utcnow()
    user = {"name": "Ada Lovelace", "role": "user", "active": True, "email_verified": False}
    user |= {"token_version": 0, "recovery_version": 0, "created_at": now, "updated_at": now}
    message = {"kind": "welcome", "created_at": now, "due_at": now, "attempts": 0}
    for start in range(0, count, _ROWS):
        emails = [f"ada{number}@concord.example" for number in range(start, start + _ROWS)]
        rows = [user | {"email": each, "email_key": each, "version": 1} for each in emails]
        database.transact(partial(_insert, table=User, rows=rows))
    ids = database.read(lambda reader: reader.scalars(select(User.id)).all())
    for start in range(0, len(ids), _ROWS):
        rows = [message | {"id": new_id(), "user_id": each} for each in ids[start : start + _ROWS]]
        database.transact(partial(_insert, table=Message, rows=rows))


def _insert(session: Session, table: type[Base], rows: list[dict[str, object]]) -> None:
    session.execute(insert(table), rows)


class Customer:
    """Reads and orders products in turns, and notes how long that takes."""

    def __init__(self, shop: Shop, url: str) -> None:
        products = shop.database.read(lambda reader: reader.scalars(select(Product.id)).all())
        self._products = itertools.cycle(products)
        self._shop, self._url = shop, url
        # A person may only order so often.
        self._people = itertools.cycle([shop.person()[1] for _ in range(_PEOPLE)])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.refused = 0
        """The number of responses with 503."""
        self.taken: list[tuple[float, str, float]] = []
        """Of each request, when it began, what it was, and its milliseconds."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Send no further request."""
        self._stop.set()
        self._thread.join()

    @property
    def ordered(self) -> int:
        """The number of orders."""
        return sum(kind == "order" for _, kind, _ in self.taken)

    def compare(self, *times: tuple[float, float]) -> str:
        """Tell the 99th percentile of each kind of request at several times."""
        told = f"; {self.refused} requests refused"
        for kind in ("read", "order"):
            at = []
            for since, until in times:
                found = [
                    took
                    for began, each, took in self.taken
                    if each == kind and since < began < until
                ]
                at.append(f"{statistics.quantiles(found, n=100)[98]:.0f}")
            told += f", p99 of {kind} {' and '.join(at)} ms"
        return told

    def _run(self) -> None:
        for product, kind in zip(self._products, itertools.cycle(("read", "order")), strict=False):
            if self._stop.wait(_THINK_SECONDS):
                return
            headers, began = next(self._people) | address(), time.monotonic()
            if kind == "read":
                answer = self._shop.client.get(f"{self._url}/v1/products", headers=headers)
            else:
                answer = self._shop.post(f"{self._url}/v1/orders", headers, order_of(product))
            if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                self.refused += 1
                continue
            answer.raise_for_status()
            self.taken.append((began, kind, 1000 * (time.monotonic() - began)))


@contextmanager
def customer(database_url: str, folder: Path) -> Iterator[Customer]:
    """Serve without background work, to one customer."""
    settings = {"APP_ENV": "test", "DATABASE_URL": database_url, "METRICS_PORT": "0"}
    settings |= {"TRUSTED_PROXIES": HOST}
    with (
        running_program(PROGRAM, folder, settings, "--no-upkeep") as server,
        open_shop(database_url, folder / "var" / "signing-key.pem", server.url) as shop,
        Customer(shop, server.url) as made,
    ):
        yield made


def left(database: Database, what: str) -> int:
    """Count the rows that are still to be done."""
    query = (
        select(func.count()).where(Order.expires_at <= utcnow())
        if what == "orders"
        else select(func.count()).select_from(Message)
    )
    return database.read(lambda reader: reader.scalars(query).one())


def measure(
    what: str, count: int, processes: int, *, kind: str, broker: str | None, requests: bool
) -> str:
    """Tell how many rows a second the processes do, and what a customer meanwhile waits for."""
    with (
        ExitStack() as stack,
        TemporaryDirectory() as name,
        make_database_url(kind, folder := Path(name)) as url,
        mail_sink() as (port, accepted),
    ):
        database = Database(url, statement_timeout=60)
        {"orders": make_overdue, "messages": make_messages}[what](database, count)
        settings = {"APP_ENV": "test", "DATABASE_URL": url, "WORKERS": str(processes)}
        settings |= {"MAIL_URL": f"smtp://{HOST}:{port}"} | (
            {"BROKER_URL": broker} if broker else {}
        )
        visitor = stack.enter_context(customer(url, folder)) if requests else None
        if visitor is not None:
            time.sleep(_IDLE_SECONDS)
        with running_worker(folder, settings):
            work_began = time.monotonic()
            rest, began, ended = count, 0.0, 0.0
            deadline = time.monotonic() + _SECONDS
            first = count
            while rest and time.monotonic() < deadline:
                time.sleep(0.2)
                rest, ended = left(database, what), time.monotonic()
                if rest < count and not began:
                    began, first = ended, rest
        if visitor is not None:
            visitor.leave()
        reserved = database.read(lambda reader: reader.scalar(select(func.sum(Product.reserved))))
        database.dispose()
    if rest:
        raise SystemExit(f"{rest} of {count} {what} were left after {_SECONDS:.0f} seconds")
    if what == "messages" and accepted.value != count:
        raise SystemExit(f"{accepted.value} of {count} messages were sent")
    if (reserved or 0) != (visitor.ordered if visitor else 0):
        raise SystemExit(f"{reserved} units are still reserved")
    told = f"{what}, {processes} processes: {first / (ended - began):.0f} a second"
    if visitor is None:
        return told
    idle = work_began - _IDLE_SECONDS * 3 / 4
    return told + visitor.compare((idle, work_began), (began, ended))


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--broker", help="the broker that hands out the work")
    parser.add_argument("--requests", action="store_true", help="measure requests meanwhile")
    given = parser.parse_args()
    for what, count in (("orders", given.orders), ("messages", given.messages)):
        for processes in given.processes if count else ():
            requests = given.requests and what == "orders"
            told = measure(
                what,
                count,
                processes,
                kind=given.database,
                broker=given.broker,
                requests=requests,
            )
            say(f"{told} (load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
