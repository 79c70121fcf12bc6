"""The fault bench: `python tests/faults/bench.py [--kills N] …`, or `make faults`.

Customers order from three replicas behind HAProxy, with a PostgreSQL server of the bench's own, and
repeat with the same key what is refused, while one kind of fault after the other happens. After
each portion, every confirmed order must be in the database exactly once, and the books must be
right. Portions that are done are kept in var/faults.json, so a run that was interrupted goes on.
The goals, which are the default, take hours. The results are a table.
"""

# ruff: noqa: E402, T201 - as a script it has to say first where the repository is, and prints.
import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.storage.database import Database
from models.storage.migrating import migrate
from tests.faults.buyers import NO_RESPONSE, Buyers
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import Shop, at_once, open_shop, order_of
from tests.faults.proxies import Proxy, running_proxy
from tests.live import HOST, free_port
from tests.models.books import check_books
from tests.models.relay import Relay, relay_to
from tests.postgresql_pair import Pair, own
from tests.tools import find_tool

RESULTS = ROOT / "var" / "faults.json"
REPLICAS, BUYERS, PEOPLE = 3, 4, 60
PORTION = 25
"""Faults that happen to one shop, before its books are looked at."""
SILENCE, CUT = 3.0, 8.0
"""Seconds for which the disk is full, and for which the network is cut."""
SPACE = "size=1g"
REFUSALS = {NO_RESPONSE, 401, 409, 429, 502, 503, 504}
"""401 and then 429: a replica whose clock is wrong refuses tokens."""
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch
frontend concord
    bind $host:$port
    default_backend replicas
backend replicas
    balance roundrobin
    option httpchk GET /health/ready
    http-check expect status 200
"""


class Replica:
    """One process of the service, which can be killed and started again."""

    def __init__(
        self, start: Callable[[], AbstractContextManager[subprocess.Popen[bytes]]]
    ) -> None:
        self._begin = start
        self.start()

    def start(self) -> None:
        """Start, and wait until it serves."""
        self._running = self._begin()
        self.process = self._running.__enter__()

    def kill(self) -> None:
        """End at once, as in a power failure."""
        self._running.__exit__(None, None, None)

    def replace(self) -> None:
        """Stop properly, and start as a new release would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        self.kill()
        self.start()


@dataclass
class Bench:
    """Everything that can fail."""

    folder: Path
    pair: Pair
    relay: Relay
    replicas: list[Replica]
    ports: list[int]
    shop: Shop
    url: str
    chance: Random
    clock: Path

    def kill(self) -> None:
        """Kill a replica while requests are on their way, and start it again."""
        replica = self.chance.choice(self.replicas)
        time.sleep(self.chance.uniform(0.02, 0.5))
        replica.kill()
        replica.start()

    def restart_database(self) -> None:
        """Crash PostgreSQL, and start it again."""
        time.sleep(self.chance.uniform(0.1, 0.5))
        self.pair.stop(0)
        self.pair.start(0)
        time.sleep(1)

    def deploy(self) -> None:
        """Replace one replica after the other, as soon as HAProxy sees the one before."""
        for replica in self.replicas:
            replica.replace()
            time.sleep(1)

    def cut(self) -> None:
        """Let nothing through between replicas and database until the replicas have given up."""
        self.relay.freeze()
        time.sleep(CUT)
        self.relay.thaw()
        time.sleep(SILENCE)

    def fill_disk(self) -> None:
        """Leave the database no byte of its disk for a while."""
        filler = self.folder / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        time.sleep(SILENCE)
        filler.unlink()
        if not self.pair.is_running(0):
            self.pair.start(0)
        time.sleep(1)

    def step_clock(self) -> None:
        """Set the clock of one replica five minutes ahead, then back, then right."""
        for seconds in ("+300", "-300", "+0"):
            self.clock.write_text(f"{seconds}\n")
            time.sleep(1)

    def rush(self, buyers: int) -> dict[str, float]:
        """Let that many buyers want more than there is: ten units each are there, they want 12."""
        product = self.shop.product(10 * buyers, self.shop.person(admin=True)[0])
        people = [self.shop.person()[1] for _ in range(buyers)]
        url, slowest = f"{self.url}/v1/orders", [0.0]

        def buy(headers: dict[str, str]) -> int:
            sold = 0
            for _ in range(12):
                began = time.monotonic()
                sold += self.shop.post(url, headers, order_of(product)).status_code == 201
                slowest.append(time.monotonic() - began)
            return sold

        sold = sum(at_once([partial(buy, headers) for headers in people]))
        return {
            "confirmed": sold,
            "lost": max(0, 10 * buyers - sold),
            "doubled": max(0, sold - 10 * buyers),
            "slowest": max(slowest),
        }

    def hold_connections(self, clients: int) -> dict[str, float]:
        """Let clients send headers slowly to one replica, while customers order from all."""
        with ExitStack() as stack:
            address = (HOST, self.ports[0])
            held = [stack.enter_context(socket.create_connection(address)) for _ in range(clients)]
            for each in held:
                each.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            buyers = self.buyers()
            with buyers.ordering():
                for _ in range(5):
                    for each in held:
                        each.send(b"a")
                    time.sleep(1)
        return measures(buyers)

    def repeat(self, fault: "Callable[[Bench], None]", times: int) -> dict[str, float]:
        """Let a fault happen again and again while customers order."""
        buyers = self.buyers()
        with buyers.ordering():
            for _ in range(times):
                fault(self)
        return measures(buyers)

    def buyers(self) -> Buyers:
        """Customers of a product of their own."""
        return Buyers(self.shop, self.url, BUYERS, PEOPLE, REFUSALS)


def measures(buyers: Buyers) -> dict[str, float]:
    """What a portion found."""
    lost, doubled = buyers.lost_and_doubled()
    return {
        "confirmed": len(buyers.orders),
        "repeated": buyers.statuses.total() - len(buyers.orders),
        "lost": lost,
        "doubled": doubled,
        "slowest": buyers.slowest,
    }


@contextmanager
def disk() -> Iterator[Path]:
    """A small disk in memory for the database, or a folder for whoever may mount none."""
    with tempfile.TemporaryDirectory(prefix="concord-faults-") as name:
        if os.geteuid() == 0:
            mount = [find_tool("mount"), "-t", "tmpfs", "-o", SPACE, "tmpfs", name]
            subprocess.run(mount, check=True)  # noqa: S603 - a folder of our own.
        try:
            own(Path(name))
            yield Path(name)
        finally:
            if os.geteuid() == 0:
                subprocess.run([find_tool("umount"), "--lazy", name], check=True)  # noqa: S603 - as above.


@contextmanager
def bench(*, faked: bool) -> Iterator[Bench]:
    """Run everything anew; with `faked`, the clock of the first replica can be set."""
    with ExitStack() as stack:
        place = stack.enter_context(disk())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="concord-faults-")))
        pair = Pair(place, (free_port(), free_port()))
        stack.callback(pair.close)
        pair.create(max_wal_size="200MB")
        database = Database(pair.url_of(0))
        migrate(database)
        database.dispose()
        relay = stack.enter_context(relay_to(HOST, pair.ports[0]))
        url = pair.url_of(0).replace(str(pair.ports[0]), str(relay.port))
        clock = folder / "clock"
        clock.write_text("+0\n")
        fake = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        ports = [free_port() for _ in range(REPLICAS)]
        issuer = f"http://{HOST}:{ports[0]}"
        settings = {
            "PUBLIC_URL": issuer,
            "METRICS_PORT": "0",
            "DRAIN_SECONDS": "1",
            "LOG_LEVEL": "error",
        }
        replicas = []
        for number, port in enumerate(ports):
            given = settings | (fake if faked and number == 0 else {})
            replicas.append(Replica(partial(killed_server, folder, port, url, **given)))
            stack.callback(replicas[-1].kill)
        servers = "".join(
            f"    server r{port} {HOST}:{port} check inter 200ms fall 2 rise 1\n" for port in ports
        )
        proxy = Proxy("haproxy", _HAPROXY + servers, ("-db", "-f", "{}"))
        front = f"http://{HOST}:{stack.enter_context(running_proxy(proxy, 0, folder))}"
        shop = stack.enter_context(open_shop(pair.url_of(0), folder / "signing-key.pem", issuer))
        chance = Random(time.time())  # noqa: S311 - no secret rests on it.
        yield Bench(place, pair, relay, replicas, ports, shop, front, chance, clock)
        check_books(shop.database)


FAULTS: dict[str, tuple[str, int, Callable[[Bench, int], dict[str, float]], int]] = {
    "kills": ("replicas killed", 1000, lambda b, n: b.repeat(Bench.kill, n), PORTION),
    "restarts": (
        "PostgreSQL crashed", 100, lambda b, n: b.repeat(Bench.restart_database, n), PORTION,
    ),
    "deploys": ("rolling deploys", 100, lambda b, n: b.repeat(Bench.deploy, n), PORTION),
    "cuts": ("network cut for 8 s", 20, lambda b, n: b.repeat(Bench.cut, n), PORTION),
    "full": ("disk full for 3 s", 20, lambda b, n: b.repeat(Bench.fill_disk, n), PORTION),
    "clocks": ("clock ±5 min", 20, lambda b, n: b.repeat(Bench.step_clock, n), PORTION),
    "buyers": ("buyers want 12 of 10 each", 1000, Bench.rush, 10**6),
    "slow": ("slow clients", 5000, Bench.hold_connections, 10**6),
}  # fmt: skip
"""By option: the title, the goal, what happens, and how much of it happens to one shop."""


COLUMNS = ("times", "confirmed", "repeated", "lost", "doubled", "slowest")


def run(name: str, goal: int, done: dict[str, dict[str, float]]) -> None:
    """Let a fault happen until its goal is reached, and note each portion."""
    title, _, fault, most = FAULTS[name]
    mine = done.setdefault(name, {"times": 0})
    while (left := goal - int(mine["times"])) > 0:
        times = min(left, most)
        with bench(faked=name == "clocks") as own_bench:
            found = fault(own_bench, times)
        for key, value in found.items():
            known = mine.get(key, 0)
            mine[key] = max(known, value) if key == "slowest" else known + value
        mine["times"] += times
        RESULTS.write_text(json.dumps(done, indent=1))
    cells = [title, *(f"{mine.get(key, 0):,.0f}" for key in COLUMNS[:-1])]
    print(f"| {' | '.join(cells)} | {mine['slowest']:.1f} s |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, (title, goal, *_) in FAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=goal, help=f"{title}; default {goal}")
    goals = vars(parser.parse_args())
    if goals["full"] and os.geteuid() != 0:
        raise SystemExit("only root can make a small disk to fill: add --full 0")
    if goals["clocks"] and not FAKETIME.exists():
        raise SystemExit("Debian's package libfaketime is missing: install it, or add --clocks 0")
    RESULTS.parent.mkdir(exist_ok=True)
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print("| fault | times | confirmed orders | repeated requests | lost | doubled | slowest |")
    print("|---|---|---|---|---|---|---|")
    for name, goal in goals.items():
        if goal:
            run(name, goal, done)
    if any(found.get("lost") or found.get("doubled") for found in done.values()):
        raise SystemExit("orders were lost or doubled")


if __name__ == "__main__":
    main()
