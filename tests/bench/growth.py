"""What gives way first: `python tests/bench/growth.py --database-url postgresql://…/empty`.

Measures on an empty PostgreSQL database how fast processes place orders of one product and of many,
how fast events enter the feed, and how many bytes an order takes. From these figures, it calculates
the share of each capacity that a busy hour needs in shops of several sizes.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import multiprocessing
import statistics
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

from sqlalchemy import text

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.actor import Actor
from models.events.feed import place_events
from models.orders.order import Order
from models.orders.order_line import LineQuantity
from models.storage.database import Database
from models.storage.migrating import migrate
from tests.bench.telling import machine, say
from tests.factories import Person, make_buyer, make_product

STOCK = 1_000_000
PRODUCTS = 200
PROCESSES = (1, 2, 4, 8)
GROWTH = (1, 10, 100, 1_000)
BUSY = 10 * 10_000_000 / (365 * 86_400)
"""Orders per second in a busy hour, ten times the average of ten million orders a year."""
EVENTS = 6
"""Events of an order: placed, paid, shipped and delivered, and two of its stock."""
HOT = 0.2
"""The share of the orders in a busy hour that have the same product."""


def place_for(url: str, products: list[int], buyer: Actor, seconds: float) -> list[float]:
    """Place orders of a random product for some seconds; return the seconds that each took."""
    database, random, took = Database(url, pool_size=1, lock_timeout=30.0), Random(), []  # noqa: S311 - not a secret.
    until = time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        line = LineQuantity(product_id=random.choice(products), quantity=1)
        place = partial(
            Order.place, lines=[line], details={}, reservation=timedelta(hours=1), by=buyer
        )
        database.transact(place)
        took.append(time.monotonic() - begun)
    database.dispose()
    return took


def rate(
    url: str, products: list[int], buyers: list[Person], seconds: float
) -> tuple[float, float]:
    """Orders per second of one process for each buyer, and their median time in seconds."""
    with multiprocessing.get_context("spawn").Pool(len(buyers)) as pool:
        # The processes have imported everything before the measurement begins.
        pool.starmap(place_for, [(url, products, buyer, 1.0) for buyer in buyers], chunksize=1)
        works = [(url, products, buyer, seconds) for buyer in buyers]
        took = [each for one in pool.starmap(place_for, works, chunksize=1) for each in one]
    return len(took) / seconds, statistics.median(took)


def number(database: Database, query: str) -> float:
    """Read one number."""
    return float(database.transact(lambda session: session.execute(text(query)).scalar_one()))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--database-url", required=True, help="of an empty PostgreSQL database")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    arguments = parser.parse_args()
    url: str = arguments.database_url
    database = Database(url, pool_size=2, statement_timeout=60.0)
    migrate(database)
    say(machine())
    products = [make_product(database, stock=STOCK).id for _ in range(PRODUCTS)]
    buyers = [make_buyer(database) for _ in range(max(PROCESSES))]
    written = "SELECT pg_current_wal_lsn() - '0/0'"
    begun, fastest = number(database, written), {1: 0.0, PRODUCTS: 0.0}
    say("products  processes  orders a second  median ms")
    for processes in PROCESSES:
        for kinds in (1, PRODUCTS):
            found, median = rate(url, products[:kinds], buyers[:processes], arguments.seconds)
            fastest[kinds] = max(fastest[kinds], found)
            say(f"{kinds:8}  {processes:9}  {found:15.0f}  {median * 1000:9.1f}")
    orders = number(database, "SELECT count(*) FROM orders")
    log = (number(database, written) - begun) / orders
    waiting = number(database, "SELECT count(*) FROM events WHERE position IS NULL")
    started = time.monotonic()
    while place_events(database):
        pass
    feed = waiting / (time.monotonic() - started)
    size = number(
        database,
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables",
    )
    say(f"{orders:.0f} orders: {size / orders:.0f} bytes and {log:.0f} bytes of log for each")
    say(f"{waiting:.0f} events entered the feed at {feed:.0f} a second")
    say("growth  orders a second  one hot product  all products  feed")
    for growth in GROWTH:
        need = BUSY * growth
        shares = (HOT * need / fastest[1], need / fastest[PRODUCTS], EVENTS * need / feed)
        say(f"{growth:6}  {need:15.1f}  {shares[0]:15.0%}  {shares[1]:12.0%}  {shares[2]:4.0%}")
    database.dispose()


if __name__ == "__main__":
    main()
