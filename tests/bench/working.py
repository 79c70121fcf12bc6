"""Measures the background work: `python tests/bench/working.py [--orders N] [--messages N]`.

Processes of `python app.py work` expire overdue orders and send messages to a server that accepts
everything at once, on PostgreSQL (TEST_POSTGRESQL_URL). The time runs from the first row that is
done to the last one, so it does not contain the start of the processes. It ends by itself.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

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
from tests.bench.telling import say
from tests.databases import make_database_url
from tests.factories import make_product, make_user
from tests.live import HOST, running_worker

_PRODUCTS = 50
_ROWS = 1000
_SECONDS = 600.0
_ANSWERS = {b"EHLO": b"250-sink\r\n250 8BITMIME\r\n", b"DATA": b"354 Go on\r\n"}


async def _accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept every message, without looking at it."""
    writer.write(b"220 sink\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        writer.write(_ANSWERS.get(verb, b"250 OK\r\n"))
        if verb == b"DATA":
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 OK\r\n")
    writer.close()


def _serve(ready: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.start_server(_accept, HOST, 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def mail_sink() -> Iterator[int]:
    """Serve SMTP in a process of its own, and give its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(theirs,))
    process.start()
    try:
        yield ours.recv()
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


def left(database: Database, what: str) -> int:
    """Count the rows that are still to be done."""
    query = (
        select(func.count()).where(Order.expires_at.is_not(None))
        if what == "orders"
        else select(func.count()).select_from(Message)
    )
    return database.read(lambda reader: reader.scalars(query).one())


def measure(what: str, count: int, processes: int, broker: str | None) -> float:
    """Return how many rows a second the processes do."""
    with (
        TemporaryDirectory() as name,
        make_database_url("postgresql", folder := Path(name)) as url,
        mail_sink() as port,
    ):
        database = Database(url, statement_timeout=60)
        {"orders": make_overdue, "messages": make_messages}[what](database, count)
        settings = {"APP_ENV": "test", "DATABASE_URL": url, "WORKERS": str(processes)}
        settings |= {"MAIL_URL": f"smtp://{HOST}:{port}"} | (
            {"BROKER_URL": broker} if broker else {}
        )
        with running_worker(folder, settings):
            rest, began, ended = count, 0.0, 0.0
            deadline = time.monotonic() + _SECONDS
            first = count
            while rest and time.monotonic() < deadline:
                time.sleep(0.2)
                rest, ended = left(database, what), time.monotonic()
                if rest < count and not began:
                    began, first = ended, rest
        reserved = database.read(lambda reader: reader.scalar(select(func.sum(Product.reserved))))
        database.dispose()
    if rest:
        raise SystemExit(f"{rest} of {count} {what} were left after {_SECONDS:.0f} seconds")
    if reserved:
        raise SystemExit(f"{reserved} units are still reserved")
    return first / (ended - began)


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--broker", help="the broker that hands out the work")
    given = parser.parse_args()
    for what, count in (("orders", given.orders), ("messages", given.messages)):
        for processes in given.processes if count else ():
            rate = measure(what, count, processes, given.broker)
            load = os.getloadavg()[0]
            say(f"{what}, {processes} processes: {rate:.0f} a second (load {load:.1f})")


if __name__ == "__main__":
    main()
