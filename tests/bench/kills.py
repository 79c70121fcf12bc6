"""Kills processes at random: `python tests/bench/kills.py [--kills N]`.

A service, two processes of `work` and their broker are killed with SIGKILL while customers order,
administrators process the orders, unpaid orders expire, a program follows the feed and a webhook
endpoint receives every event. Half of the kills are with PostgreSQL and RabbitMQ, the others with
SQLite and Redis. The bench starts the brokers itself. At the end,

- every acknowledged change is in the database, and the stock agrees with the orders,
- the feed has each event once, and replaying it gives the orders and the stock of the tables,
- the program that followed the feed saw each event exactly once, in the same order,
- the webhook endpoint received each event at least once and nothing else; repeats had the same id.

The bench needs the PostgreSQL server of the tests. It ends by itself.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.api.server.test_work_with_broker import workers_of
from tests.bench.busy_shop import keep_busy
from tests.bench.children import Child, inherited, is_reachable, rabbitmq_of, redis_of
from tests.bench.telling import say
from tests.databases import make_database_url
from tests.faults.live_shop import open_shop
from tests.faults.test_killed import SETTINGS
from tests.live import APP, LiveServer, free_port
from tests.servers.webhook_receiver import receiving, wait_for

PAIRS = (("postgresql", rabbitmq_of), ("sqlite", redis_of))
VICTIMS = ("service", "worker", "work", "broker")
WEIGHTS = (8, 8, 2, 2)
_START_SECONDS = 120.0
_LONGEST_LIFE = 1.0
"""Seconds between two kills, at most."""


def run(
    kind: str,
    start_broker: Callable[[Path], tuple[Child, str]],
    kills: int,
    chance: random.Random,
) -> str:
    """Kill `kills` times with one database and broker, check everything, and report."""
    port = free_port()
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as name,
        make_database_url(kind, folder := Path(name)) as database_url,
        receiving() as receiver,
    ):
        broker, broker_url = start_broker(folder)
        settings = inherited() | {"APP_ENV": "test", "DATABASE_URL": database_url}
        settings |= {"BROKER_URL": broker_url, "WORKERS": "1", **SETTINGS}
        settings |= {"PORT": str(port), "METRICS_PORT": "0"}
        settings |= {"SIGNING_KEY_FILE": str(folder / "signing-key.pem")}
        program = [sys.executable, str(APP)]
        service = Child("service", [*program, "serve", "--no-upkeep"], folder, settings)
        server = LiveServer(port, service.log, settings, service.process)
        children = {"broker": broker, "service": service}
        try:
            wait_for(partial(is_reachable, broker_url), _START_SECONDS)
            wait_for(server.is_healthy, _START_SECONDS)
            doubled = settings | {"WORKERS": "2"}
            children["work"] = Child("work", [*program, "work"], folder, doubled)
            with open_shop(database_url, folder / "signing-key.pem", server.url) as shop:
                kill = partial(_kill, children, server, kills, chance)
                found = keep_busy(shop, server.url, receiver, kill)
                return f"{kind}, {broker_url.partition(':')[0]}: {found}"
        finally:
            for each in children.values():
                each.kill()


def _kill(
    children: Mapping[str, Child], server: LiveServer, kills: int, chance: random.Random
) -> str:
    """Kill `kills` times, and report what was killed."""
    killed, began = Counter[str](), time.monotonic()
    for _ in range(kills):
        time.sleep(chance.uniform(0.02, _LONGEST_LIFE))
        [victim] = chance.choices(VICTIMS, WEIGHTS)
        if victim == "worker":
            found = wait_for(lambda: workers_of(children["work"].process), _START_SECONDS)
            with suppress(ProcessLookupError):
                os.kill(chance.choice(found), signal.SIGKILL)
        else:
            children[victim].restart()
        killed[victim] += 1
        # If the service is down, there is nothing to interrupt.
        wait_for(server.is_healthy, _START_SECONDS)
    told = ", ".join(f"{victim} {killed[victim]}" for victim in VICTIMS)
    return f"{kills} kills in {time.monotonic() - began:.0f} s ({told})"


def main() -> None:
    """Print a line for each database and broker, or stop at the first failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=31)
    given = parser.parse_args()
    chance = random.Random(given.seed)  # noqa: S311 - the same kills each time, not a secret.
    for kind, broker in PAIRS:
        say(run(kind, broker, given.kills // len(PAIRS), chance))


if __name__ == "__main__":
    main()
