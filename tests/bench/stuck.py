"""Latency of unrelated reads while a table is locked: `python tests/bench/stuck.py`.

PostgreSQL holds a lock on the table of orders, as a careless change of the schema does, and 24
clients read and place orders in the meantime. Another client reads products. Its latency is
compared with that before the lock, under the same load. Needs the PostgreSQL server of the tests;
it ends by itself after a minute.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psycopg

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.databases import make_database_url
from tests.faults.live_shop import Shop, open_shop, order_of
from tests.live import HOST, running_server

CLIENTS = 24
_addresses = itertools.count(1)


def address() -> dict[str, str]:
    """A header that gives the request an address of its own, so that no limit counts it."""
    number = next(_addresses)
    return {"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


def trouble(shop: Shop, url: str, product: int, stop: threading.Event, seen: Counter[int]) -> None:
    """Read and place orders in turns until told to stop."""
    _, headers = shop.person()
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in itertools.count():
            if stop.is_set():
                return
            if number % 2:
                key = {"Idempotency-Key": str(number)}
                answer = client.post(
                    "/v1/orders", json=order_of(product), headers=headers | address() | key
                )
            else:
                answer = client.get("/v1/orders", headers=headers | address())
            seen[answer.status_code] += 1
            # Refused clients come back later; one that is answered acts as a person does.
            time.sleep(0.2)


def read_products(url: str, seconds: float) -> tuple[list[float], Counter[int]]:
    """The milliseconds of reads of products, one after the other, and their statuses."""
    taken, seen, until = [], Counter[int](), time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < until:
            begun = time.perf_counter()
            answer = client.get("/v1/products", headers=address())
            taken.append((time.perf_counter() - begun) * 1000)
            seen[answer.status_code] += 1
    return taken, seen


def main() -> None:
    """Measure without the lock and with it, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each measurement")
    seconds = parser.parse_args().seconds
    with (
        tempfile.TemporaryDirectory() as name,
        make_database_url("postgresql", Path(name)) as database_url,
        running_server(
            Path(name), DATABASE_URL=database_url, METRICS_PORT="0", TRUSTED_PROXIES=HOST
        ) as server,
        open_shop(database_url, Path(name) / "var" / "signing-key.pem", server.url) as shop,
    ):
        url = server.url
        admin, _ = shop.person(admin=True)
        product = shop.product(1_000_000, admin)
        stop, orders = threading.Event(), Counter[int]()
        clients = [
            threading.Thread(target=trouble, args=(shop, url, product, stop, orders))
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        read_products(url, 3.0)
        print(f"{'table of orders':16} {'p50 ms':>8} {'p99 ms':>8} {'reads':>6}  statuses")  # noqa: T201 - This program prints a table.
        for state in ("free", "locked"):
            with psycopg.connect(database_url) as lock:
                if state == "locked":
                    lock.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
                orders.clear()
                taken, seen = read_products(url, seconds)
                others = dict(orders)
                lock.rollback()
            p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100)[98]
            print(f"{state:16} {p50:8.1f} {p99:8.1f} {len(taken):6}  {dict(seen)}; orders {others}")  # noqa: T201 - As above.
        stop.set()
        for client in clients:
            client.join()


if __name__ == "__main__":
    main()
