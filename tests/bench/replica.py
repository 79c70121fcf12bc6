"""What a replica takes away from the primary: `python tests/bench/replica.py [--rounds N]`.

Two services, one of them with a replica, read the catalogue of one pair of PostgreSQL servers in
turns. Prints the processor time of each database server and the time of a response.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.storage.database import Database
from models.storage.migrating import migrate
from tests.bench.telling import machine, say
from tests.factories import make_product
from tests.live import HOST, running_server
from tests.servers.postgresql_pair import Pair
from tests.servers.postgresql_pair import running_server as running_database

READS = 1_000
PRODUCTS = 200
IDLE = 20


def used(pair: Pair, number: int) -> float:
    """Return the seconds of processor time that a server has used for its connections."""
    ticks = 0
    for process in pair.processes(number):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def read(url: str, took: list[float]) -> None:
    """Read pages of 25 products and single products in turns."""
    with httpx.Client(base_url=url) as client:
        for number in range(READS):
            path = "/v1/products" if number % 2 else f"/v1/products/{number % PRODUCTS + 1}"
            # No limit counts an address twice.
            headers = {"X-Forwarded-For": f"10.0.{number // 250}.{number % 250}"}
            begun = time.perf_counter()
            client.get(path, headers=headers).raise_for_status()
            took.append(time.perf_counter() - begun)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    say(machine())
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        pair = stack.enter_context(running_database(folder))
        primary, replica = pair.url_of(0), pair.url_of(1)
        database = Database(primary)
        migrate(database)
        for number in range(PRODUCTS):
            make_product(database, name=f"Bicycle {number}")
        database.dispose()
        pair.follow("async")
        urls = {}
        for title, settings in (
            ("without", {}),
            ("with", {"DATABASE_READ_URL": replica}),
        ):
            (own := folder / title).mkdir()
            settings |= {"APP_ENV": "test", "LOG_LEVEL": "error", "METRICS_PORT": "0"}
            settings |= {"DATABASE_URL": primary, "TRUSTED_PROXIES": HOST}
            settings["RESPONSE_CHECK_SAMPLE"] = "0"
            urls[title] = stack.enter_context(running_server(own, **settings)).url
            time.sleep(2)
            before, begun = used(pair, 0), time.monotonic()
            time.sleep(IDLE)
            share = (used(pair, 0) - before) / (time.monotonic() - begun)
            say(f"idle services, the last {title} a replica: {share:.1%} of a core of the primary")
        costs: dict[tuple[str, int], list[float]] = defaultdict(list)
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for title, url in urls.items():
                began = [used(pair, server) for server in (0, 1)]
                read(url, times[title])
                for server in (0, 1):
                    costs[title, server].append(used(pair, server) - began[server])
        for title in urls:
            shares = [statistics.median(costs[title, server]) for server in (0, 1)]
            response = statistics.median(times[title]) * 1000
            say(f"{READS} reads {title} a replica: {shares[0]:.2f} s of the primary's processor,")
            say(f"{shares[1]:.2f} s of the replica's, and {response:.1f} ms for a response")


if __name__ == "__main__":
    main()
