"""What caches save: `python tests/bench/caching.py --redis-url URL [--seconds N]`.

First, how long the catalogue is read from each database, and how long a response of that size is
read from Redis, in turns. A cache in Redis could save no more than the difference. Second, how many
of the reads that clients send to a shared cache in front of the service it answers by itself, when
some products are read more often than others (Zipf's law) and one changes each second. Needs nginx.
It ends by itself after a few minutes.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import httpx
import redis

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.catalogue.product import Product
from models.catalogue.product_list import ProductFilter, find_products
from models.storage.database import Database
from models.storage.migrating import migrate
from models.storage.reader import Reader
from tests.bench.cluster import postgresql
from tests.bench.telling import machine, say
from tests.factories import make_product
from tests.faults.live_shop import open_shop
from tests.faults.proxies import CACHE, running_proxy
from tests.live import HOST, running_server

ROUNDS = 2_000
PRODUCTS = 200
CLIENTS = 4
DATABASE_CORE = 0
SIZES = {"a product": 420, "25 products": 9_600}
"""Bytes of the responses."""


def a_product(reader: Reader) -> object:
    return Product.visible_to(reader, None, 7)


def a_page(reader: Reader) -> object:
    return find_products(reader, ProductFilter(), by=None, sort="created_at", after=None, limit=25)


def turns(works: Mapping[str, Callable[[], object]]) -> None:
    """Print the median microseconds of each, and those that this process computes."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    used = Counter[str]()
    for _ in range(ROUNDS):
        for name, work in works.items():
            begun, computed = time.perf_counter(), time.thread_time_ns()
            work()
            used[name] += time.thread_time_ns() - computed
            taken[name].append(time.perf_counter() - begun)
    for name, times in taken.items():
        own = used[name] / ROUNDS / 1000
        say(f"{name:24} {statistics.median(times) * 1e6:6.0f} µs, of which {own:5.0f} µs of CPU")


def measure_reads(url: str, store: redis.Redis, title: str) -> None:
    """Compare reads of a new database with reads from Redis."""
    database = Database(url, pool_size=1)
    migrate(database)
    for number in range(PRODUCTS):
        make_product(database, name=f"Bicycle {number}")
    for name, size in SIZES.items():
        store.set(f"bench:{name}", bytes(size), ex=600)
    try:
        turns(
            {
                f"a product, {title}": lambda: database.read(a_product, single=True),
                "a product, Redis": lambda: store.get("bench:a product"),
                f"25 products, {title}": lambda: database.read(a_page, single=True),
                "25 products, Redis": lambda: store.get("bench:25 products"),
            }
        )
    finally:
        database.dispose()


def read(port: int, products: list[int], until: float, seen: Counter[str], seed: int) -> None:
    """Read products as often as possible, those at the beginning of the list most often."""
    random = Random(seed)  # noqa: S311 - the same reads each time.
    weights = [1 / rank for rank in range(1, len(products) + 1)]
    with httpx.Client(base_url=f"http://{HOST}:{port}") as client:
        while time.monotonic() < until:
            (product,) = random.choices(products, weights)
            number = seen.total()
            # No limit counts an address twice.
            address = f"10.{seed}.{number // 250 % 250}.{number % 250}"
            headers = {"X-Forwarded-For": address}
            answer = client.get(f"/v1/products/{product}", headers=headers).raise_for_status()
            seen[answer.headers["x-cache"]] += 1


def measure_hits(seconds: float) -> None:
    """Print what a shared cache did with reads by several clients."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key, url = folder / "key.pem", f"sqlite:///{folder / 'shop.db'}"
        environment = {"APP_ENV": "test", "SIGNING_KEY_FILE": str(key), "DATABASE_URL": url}
        environment["TRUSTED_PROXIES"] = HOST
        with (
            running_server(folder, **environment) as server,
            open_shop(url, key, server.url) as shop,
            running_proxy(CACHE, server.port, folder) as port,
        ):
            user, headers = shop.person(admin=True)
            products = [shop.product(1, user) for _ in range(PRODUCTS)]
            until = time.monotonic() + seconds
            counts = [Counter[str]() for _ in range(CLIENTS)]
            threads = [
                threading.Thread(target=read, args=(port, products, until, seen, seed))
                for seed, seen in enumerate(counts)
            ]
            for thread in threads:
                thread.start()
            changes = stale = 0
            while time.monotonic() < until - 3:
                path = f"{server.url}/v1/products/{products[changes % 3]}"
                changed = shop.client.patch(path, json={"name": f"Kite {changes}"}, headers=headers)
                wanted = changed.raise_for_status().json()["name"]
                # nginx counts whole seconds, and begins the one that s-maxage allows with the next.
                time.sleep(2.1)
                shown = httpx.get(path.replace(str(server.port), str(port)))
                changes, stale = changes + 1, stale + (shown.json()["name"] != wanted)
            for thread in threads:
                thread.join()
            total = sum(counts, Counter[str]())
            shares = ", ".join(f"{name} {n / total.total():.1%}" for name, n in total.most_common())
            say(f"{total.total()} reads through the cache: {shares}")
            say(f"{changes} changes, of which {stale} were not seen after 2.1 s")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--redis-url", default="redis://127.0.0.1:6379/15")
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    say(machine())
    with redis.Redis.from_url(arguments.redis_url) as store, tempfile.TemporaryDirectory() as name:
        measure_reads(f"sqlite:///{name}/shop.db", store, "SQLite")
        with postgresql(DATABASE_CORE) as url:
            if url is not None:
                measure_reads(url, store, "PostgreSQL")
    measure_hits(arguments.seconds)


if __name__ == "__main__":
    main()
