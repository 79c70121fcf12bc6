"""Kills processes at random: `python tests/bench/kills.py [--kills N]`.

A service, two processes of `work` and their broker are killed with SIGKILL while customers order,
administrators go on with the orders, unpaid orders expire, a program follows the feed and a webhook
endpoint gets every event. Half of the kills are with PostgreSQL and RabbitMQ, the others with
SQLite and Redis, whose servers it starts itself. At the end,

- every acknowledged change is in the database, and the stock agrees with the orders,
- the feed has each event once, and replaying it gives the orders and the stock of the tables,
- the program that followed the feed saw each event exactly once, in the same order,
- the webhook endpoint got each event at least once and nothing else, duplicates with the same id.

It needs the PostgreSQL server of the tests. It ends by itself.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from kombu.connection import Connection
from typing_extensions import override

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.access.secret_box import SecretBox
from models.webhooks.webhook_endpoint import WebhookEndpoint
from tests.api.test_work import make_due
from tests.api.test_work_with_broker import workers_of
from tests.bench.telling import say
from tests.databases import make_database_url
from tests.faults.live_shop import Shop, open_shop, repeating
from tests.faults.test_killed import (
    CUSTOMERS,
    SETTINGS,
    Customer,
    Step,
    assert_all_is_as_acknowledged,
    resolve_what_was_lost,
)
from tests.faults.test_webhooks_killed import expire_leases, statuses
from tests.live import APP, HOST, INHERITED, LiveServer, free_port
from tests.models.feeds import check_replay, read_feed
from tests.tools import find_tool
from tests.webhook_receiver import Receiver, receiving, wait_for

PAIRS = (("postgresql", "rabbitmq"), ("sqlite", "redis"))
VICTIMS = ("service", "worker", "work", "broker")
WEIGHTS = (8, 8, 2, 2)
_START_SECONDS = 120.0
_LONGEST_LIFE = 1.0
"""Seconds between two kills, at most."""


class Child:
    """A process that can be killed and started again."""

    def __init__(
        self, name: str, command: list[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Start the process in a folder, where it logs to `name`.log."""
        self._command = command
        self._folder = folder
        self._environment = environment
        self.log = folder / f"{name}.log"
        self.process = self._start()

    def kill(self) -> None:
        """End the process and those that it started at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        """Kill the process, and start it again."""
        self.kill()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own commands.
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its own group, so that nothing of it is left.
                start_new_session=True,
            )


class Patient(Customer):
    """A customer who repeats a request that the service could not finish."""

    @override
    def act(self) -> None:
        """Send one request."""
        with suppress(httpx.TransportError):
            self.send(self.lost or self._next())

    @override
    def _learn(self, step: Step, answer: httpx.Response) -> None:
        unfinished = answer.status_code == 409 and answer.json()["code"] != "illegal-transition"
        if answer.status_code in {429, 503} or unfinished:
            self.lost = step
            time.sleep(0.1)
        else:
            super()._learn(step, answer)


class Follower:
    """A program that reads the feed for as long as it is told to."""

    def __init__(self, shop: Shop, url: str) -> None:
        self.ids: list[str] = []
        self._client, self._url = shop.client, f"{url}/v1/events"
        self._headers = shop.person(admin=True)[1]
        self._after: str | None = None

    def read(self) -> None:
        """Read one page, if the service answers."""
        query: dict[str, str | int] = {"wait": 1, "limit": 100}
        if self._after is not None:
            query["after"] = self._after
        with suppress(httpx.TransportError):
            answer = self._client.get(self._url, params=query, headers=self._headers)
            if answer.status_code == 200:
                self.ids += [each["id"] for each in answer.json()["items"]]
                self._after = answer.json()["next_after"]
                return
        time.sleep(0.1)


def broker_of(kind: str, folder: Path) -> tuple[Child, str]:
    """Start a broker of our own, and return it with its URL."""
    port = free_port()
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if kind == "redis":
        options = ["--save", "", "--appendonly", "no", "--dir", str(folder), "--port", str(port)]
        return Child("broker", [find_tool("redis-server"), *options], folder, environment), (
            f"redis://{HOST}:{port}/0"
        )
    environment |= {
        "RABBITMQ_NODENAME": f"concord-kills-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "no-plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "no-settings"),
        "HOME": str(folder),
    }
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    return Child("broker", [server], folder, environment), f"amqp://guest:guest@{HOST}:{port}//"


def is_reachable(url: str) -> bool:
    """Whether a broker accepts connections."""
    with Connection(url, connect_timeout=5) as connection:  # type: ignore[no-untyped-call]  # It has no types.
        try:
            connection.ensure_connection(max_retries=1, timeout=5)
        except Exception:  # noqa: BLE001 - each broker has its own errors.
            return False
    return True


def run(kind: str, broker_kind: str, kills: int, chance: random.Random) -> str:
    """Kill so often with one database and broker, check everything, and tell what happened."""
    port = free_port()
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as name,
        make_database_url(kind, folder := Path(name)) as database_url,
        receiving() as receiver,
    ):
        broker, broker_url = broker_of(broker_kind, folder)
        settings = {each: os.environ[each] for each in INHERITED if each in os.environ}
        settings |= {"APP_ENV": "test", "DATABASE_URL": database_url, "BROKER_URL": broker_url}
        settings |= {"PORT": str(port), "METRICS_PORT": "0", "WORKERS": "1", **SETTINGS}
        settings |= {"SIGNING_KEY_FILE": str(folder / "signing-key.pem")}
        program = [sys.executable, str(APP)]
        service = Child("service", [*program, "serve", "--no-upkeep"], folder, settings)
        server = LiveServer(port, service.log, settings, service.process)
        children = [broker, service]
        try:
            wait_for(partial(is_reachable, broker_url), _START_SECONDS)
            wait_for(server.is_healthy, _START_SECONDS)
            work = Child("work", [*program, "work"], folder, {**settings, "WORKERS": "2"})
            children.append(work)
            with open_shop(database_url, folder / "signing-key.pem", server.url) as shop:
                return _kill_and_check(
                    shop,
                    server,
                    receiver,
                    {"service": service, "work": work, "broker": broker},
                    kills,
                    chance,
                    f"{kind}, {broker_kind}",
                )
        finally:
            for each in children:
                each.kill()


def _kill_and_check(
    shop: Shop,
    server: LiveServer,
    receiver: Receiver,
    children: Mapping[str, Child],
    kills: int,
    chance: random.Random,
    title: str,
) -> str:
    box = SecretBox(shop.keys.derive("webhooks"))
    shop.database.transact(
        partial(WebhookEndpoint.create, box=box, values={"url": f"{receiver.url}/"})
    )
    product = shop.product(1_000_000, shop.person(admin=True)[0])
    customers: list[Customer] = [
        Patient(
            shop,
            server.url,
            *shop.person(),
            shop.person(admin=True)[1],
            product,
            random.Random(number),  # noqa: S311 - no secret.
        )
        for number in range(CUSTOMERS)
    ]
    follower = Follower(shop, server.url)
    killed, began = Counter[str](), time.monotonic()
    with repeating([*(each.act for each in customers), follower.read]):
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
            # Without a service there is nothing to interrupt.
            wait_for(server.is_healthy, _START_SECONDS)
    took = time.monotonic() - began
    while any(each.lost for each in customers):
        resolve_what_was_lost(customers)
    time.sleep(int(SETTINGS["RESERVATION_SECONDS"]) + 1)
    wait_for(partial(_is_settled, shop), _START_SECONDS)
    assert_all_is_as_acknowledged(shop, customers)
    events = read_feed(shop.database)
    check_replay(shop.database, events)
    ids = [str(each.id) for each in events]
    assert len(ids) == len(set(ids)), "an event is in the feed twice"
    while len(follower.ids) < len(ids):
        follower.read()
    assert follower.ids == ids, "the program that followed the feed saw something else"
    sent = Counter(_received_ids(receiver))
    assert sent.keys() == set(ids), "something else was delivered than the feed has"
    return (
        f"{title}: {sum(killed.values())} kills in {took:.0f} s ({_told(killed)}), "
        f"{len(shop.statuses())} orders, {len(ids)} events, each once in the feed and delivered, "
        f"{sum(sent.values()) - len(sent)} of them again with the same id"
    )


def _told(killed: Counter[str]) -> str:
    return ", ".join(f"{victim} {killed[victim]}" for victim in VICTIMS)


def _is_settled(shop: Shop) -> bool:
    """Whether nothing is left to expire or to deliver. Leases of the dead end at once."""
    make_due(shop.database)
    expire_leases(shop.database)
    time.sleep(1)
    left = statuses(shop.database).keys() - {"delivered"}
    return not left and "pending" not in shop.statuses().values()


def _received_ids(receiver: Receiver) -> list[str]:
    """Return the ids of the received events, which their bodies repeat."""
    bodies: dict[str, bytes] = {}
    for each in receiver.received:
        event_id = each.headers["Webhook-Id"]
        assert json.loads(each.body)["id"] == event_id
        assert bodies.setdefault(event_id, each.body) == each.body
    return [each.headers["Webhook-Id"] for each in receiver.received]


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
