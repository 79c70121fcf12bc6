"""A shop of three replicas behind HAProxy, in which everything can be made to fail.

It has a PostgreSQL server and a mail server of its own.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

from models.storage.database import Database
from models.storage.migrating import migrate
from tests.faults.buyers import NO_RESPONSE, Buyers
from tests.faults.failing_mail import MailRoom, Newcomers, open_mail_room
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import Shop, at_once, open_shop, order_of, repeating
from tests.faults.proxies import Proxy, running_proxy
from tests.live import HOST, free_port
from tests.models.books import check_books
from tests.models.relay import Relay, relay_to
from tests.servers.pgbouncer import Pooler, running_pooler, set_up_role
from tests.servers.postgresql_pair import Pair, own
from tests.tools import find_tool

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_REPLICAS, _BUYERS, _PEOPLE = 3, 4, 60
_SILENCE, _CUT, _MAIL_CUT = 3.0, 8.0, 12.0
"""Seconds for which the disk is full, the network is cut, and mail fails. The service gives up on a
silent mail server after ten seconds."""
_SPACE = "size=1g"
_REFUSALS = {NO_RESPONSE, 401, 409, 429, 502, 503, 504}
"""401 and then 429: a replica whose clock is wrong refuses tokens."""
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
    """One process of the service, which can be killed and restarted."""

    def __init__(self, start: Callable[[], AbstractContextManager[ForkServerProcess]]) -> None:
        self._begin = start
        self.start()

    def start(self) -> None:
        """Start the replica, and wait until it serves."""
        self._running = self._begin()
        self.process = self._running.__enter__()

    def kill(self) -> None:
        """Kill the replica, as a power failure would."""
        self._running.__exit__(None, None, None)

    def replace(self) -> None:
        """Stop the replica properly, and start it again, as for a new release."""
        self.process.terminate()
        self.process.join(40)
        self.kill()
        self.start()


@dataclass
class FailingShop:
    """Everything that can fail."""

    folder: Path
    pair: Pair
    relay: Relay
    pooler: Pooler
    replicas: list[Replica]
    ports: list[int]
    shop: Shop
    url: str
    chance: Random
    clock: Path
    room: MailRoom

    def kill(self) -> None:
        """Kill a replica while it has requests, and start it again."""
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

    def restart_pooler(self) -> None:
        """Kill PgBouncer, and start it again."""
        time.sleep(self.chance.uniform(0.1, 0.5))
        self.pooler.stop(signal.SIGKILL)
        time.sleep(self.chance.uniform(0, 0.5))
        self.pooler.start()
        time.sleep(1)

    def deploy(self) -> None:
        """Replace one replica after another, once HAProxy sees the previous one."""
        for replica in self.replicas:
            replica.replace()
            time.sleep(1)

    def cut(self) -> None:
        """Let nothing through between replicas and database until the replicas have given up."""
        self.relay.freeze()
        time.sleep(_CUT)
        self.relay.thaw()
        time.sleep(_SILENCE)

    def fill_disk(self) -> None:
        """Fill the disk of the database for a while."""
        filler = self.folder / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        time.sleep(_SILENCE)
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
        """Let buyers order 12 units each of a product that has ten for each of them."""
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

    def fail_mail(self, times: int) -> dict[str, float]:
        """Let the mail server fail `times` times while people sign up."""
        newcomers = Newcomers(self.url, self.shop.database)
        with repeating([newcomers.sign_up] * _BUYERS, pause=0.25):
            for number in range(times):
                with self.room.failing(number):
                    time.sleep(_MAIL_CUT)
                    assert newcomers.waiting(), "the failure stopped no message"
                time.sleep(_SILENCE)
        return newcomers.measures(self.room.inbox)

    def repeat(self, fault: "Callable[[FailingShop], None]", times: int) -> dict[str, float]:
        """Let a fault happen again and again while customers order."""
        buyers = self.buyers()
        with buyers.ordering():
            for _ in range(times):
                fault(self)
        return measures(buyers)

    def buyers(self) -> Buyers:
        """Customers of a product of their own."""
        return Buyers(self.shop, self.url, _BUYERS, _PEOPLE, _REFUSALS)


def measures(buyers: Buyers) -> dict[str, float]:
    """Return the results of a portion."""
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
    """Yield a small disk in memory for the database, or a folder if we may not mount a disk."""
    with tempfile.TemporaryDirectory(prefix="concord-faults-") as name:
        if os.geteuid() == 0:
            mount = [find_tool("mount"), "-t", "tmpfs", "-o", _SPACE, "tmpfs", name]
            subprocess.run(mount, check=True)  # noqa: S603 - a folder of our own.
        try:
            own(Path(name))
            yield Path(name)
        finally:
            if os.geteuid() == 0:
                subprocess.run([find_tool("umount"), "--lazy", name], check=True)  # noqa: S603 - as above.


@contextmanager
def open_failing_shop(*, faked: bool, pooled: bool) -> Iterator[FailingShop]:
    """Start everything afresh.

    With `faked`, the clock of the first replica can be set. With `pooled`, the replicas use
    PgBouncer.
    """
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
        set_up_role(pair)
        pooler = stack.enter_context(running_pooler(relay.port))
        clock = folder / "clock"
        clock.write_text("+0\n")
        fake = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        room = stack.enter_context(open_mail_room())
        ports = [free_port() for _ in range(_REPLICAS)]
        issuer = f"http://{HOST}:{ports[0]}"
        settings = {
            "PUBLIC_URL": issuer,
            "METRICS_PORT": "0",
            "DRAIN_SECONDS": "1",
            "LOG_LEVEL": "error",
            "MAIL_URL": f"smtp://{HOST}:{room.port}",
            "TRUSTED_PROXIES": HOST,
        }
        if pooled:
            settings["DATABASE_POOLER_URL"] = pooler.url_of("postgres")
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
        yield FailingShop(
            place, pair, relay, pooler, replicas, ports, shop, front, chance, clock, room
        )
        check_books(shop.database)
