"""Cuts hosts off: `python tests/bench/hosts.py [--seconds 15 90]`, as root on Linux.

A broker (RabbitMQ), a service and two instances of `work` run on hosts of their own, which are
network namespaces on one bridge. PostgreSQL, a mail server, a webhook endpoint and the clients run
on the machine itself. While customers order, people sign up and unpaid orders expire, the cables of
each worker and of the broker are pulled in turn for some seconds, and plugged in again.

At the end, the checks of `kills.py` must pass, and each message that was owed must have arrived.
For each cut, the table shows the longest time without a message, and the time from the return of
the cable until each worker sent a message.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.storage.database import Database
from models.storage.migrating import migrate
from tests.bench.busy_shop import keep_busy
from tests.bench.children import Child, inherited, is_reachable, rabbitmq_of
from tests.bench.telling import say
from tests.databases import fast_folder
from tests.faults.failing_mail import Newcomers
from tests.faults.live_shop import open_shop
from tests.faults.test_killed import SETTINGS
from tests.live import APP, HOST, LiveServer, free_port
from tests.servers.mail_server import Inbox, mail_server
from tests.servers.postgresql_pair import Pair, own
from tests.servers.webhook_receiver import receiving, wait_for
from tests.tools import find_tool

_NET = "10.231.0"
_HERE = f"{_NET}.1"
_BRIDGE = "concord0"
_HOSTS = ("broker", "service", "worker-1", "worker-2")
_START_SECONDS = 120.0
_RETURN_SECONDS = 300.0
_PAUSE = 10.0
"""Seconds of undisturbed work before each cut."""


@dataclass(frozen=True)
class Host:
    """A network namespace with an address and a cable to the bridge."""

    name: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """The prefix of a command that runs on this host."""
        return [find_tool("ip"), "netns", "exec", self.name]

    @contextmanager
    def running(self) -> Iterator["Host"]:
        """Run this host until the block ends, and then kill all its processes."""
        ip("netns", "add", self.name)
        try:
            ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            ip("link", "set", self.name, "master", _BRIDGE, "up")
            inside = partial(ip, "-n", self.name)
            inside("address", "add", f"{self.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                inside("link", "set", device, "up")
            yield self
        finally:
            for pid in ip("netns", "pids", self.name).split():
                os.kill(int(pid), signal.SIGKILL)
            ip("netns", "delete", self.name)
            # Closing sockets keep the namespace alive for a while, and the cable with it.
            with suppress(subprocess.CalledProcessError):
                ip("link", "delete", self.name)

    def pull(self) -> None:
        """Pull the cable."""
        ip("link", "set", self.name, "down")

    def plug(self) -> None:
        """Plug the cable in again."""
        ip("link", "set", self.name, "up")


@dataclass
class Cuts:
    """Pulls the cables, and watches the mail meanwhile."""

    workers: Sequence[Host]
    broker: Host
    inbox: Inbox
    lengths: Sequence[float]

    def run(self) -> str:
        """Cut off each host for each length of time, and report what happened."""
        say("| cut off | for | longest time without mail | until both workers sent mail again |")
        say("|---|---|---|---|")
        for seconds in self.lengths:
            for host in (*self.workers, self.broker):
                self._returned()
                time.sleep(_PAUSE)
                host.pull()
                silence = self._longest_silence(seconds)
                host.plug()
                returned = self._returned()
                say(f"| {host.name} | {seconds:.0f} s | {silence:.1f} s | {returned:.1f} s |")
        return f"{len(self.lengths) * 3} cuts"

    def _longest_silence(self, seconds: float) -> float:
        until, longest = time.monotonic() + seconds, 0.0
        last, count = time.monotonic(), len(self.inbox.messages)
        while (now := time.monotonic()) < until:
            if len(self.inbox.messages) > count:
                last, count = now, len(self.inbox.messages)
            longest = max(longest, now - last)
            time.sleep(0.05)
        return longest

    def _returned(self) -> float:
        """Wait until every worker sends mail, and return how many seconds that took."""
        began = time.monotonic()
        self.inbox.peers.clear()
        wanted = {each.address for each in self.workers}
        wait_for(lambda: wanted <= self._senders(), _RETURN_SECONDS)
        return time.monotonic() - began

    def _senders(self) -> set[str]:
        return {each[0] for each in list(self.inbox.peers) if isinstance(each, tuple)}


def ip(*arguments: str) -> str:
    """Run an `ip` command, and return its output."""
    command = [find_tool("ip"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own arguments.


@contextmanager
def bridge() -> Iterator[None]:
    """Connect the hosts to each other and to this machine until the block ends."""
    ip("link", "add", _BRIDGE, "type", "bridge")
    try:
        ip("address", "add", f"{_HERE}/24", "dev", _BRIDGE)
        ip("link", "set", _BRIDGE, "up")
        yield
    finally:
        ip("link", "delete", _BRIDGE)


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL server that all hosts can reach, and yield the URL of its database."""
    own(folder)
    pair = Pair(folder, (free_port(), free_port()))
    try:
        pair.create(listen_addresses=f"{HOST},{_HERE}")
        with (folder / "0" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {_NET}.0/24 trust\n")
        with psycopg.connect(pair.url_of(0), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        url = pair.url_of(0).replace(HOST, _HERE)
        wait_for(partial(_migrate, url))
        yield url
    finally:
        pair.close()


def _migrate(url: str) -> bool:
    found = Database(url)
    migrate(found)
    found.dispose()
    return True


def run(lengths: Sequence[float]) -> str:
    """Run everything, cut off each host for each length of time, and report what was checked."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
        fast = Path(stack.enter_context(TemporaryDirectory(dir=fast_folder(folder))))
        stack.enter_context(bridge())
        at_broker, at_service, *workers = (
            stack.enter_context(Host(name, f"{_NET}.{number}").running())
            for number, name in enumerate(_HOSTS, 2)
        )
        database_url = stack.enter_context(database(fast))
        inbox = stack.enter_context(mail_server(host=_HERE))
        receiver = stack.enter_context(receiving(_HERE))
        broker, broker_url = rabbitmq_of(folder, at_broker.address, at_broker.prefix)
        stack.callback(broker.kill)
        wait_for(partial(is_reachable, broker_url), _START_SECONDS)
        settings = (
            inherited()
            | SETTINGS
            | {
                "APP_ENV": "test",
                "DATABASE_URL": database_url,
                "BROKER_URL": broker_url,
                "MAIL_URL": f"smtp://{_HERE}:{inbox.port}",
                "SIGNING_KEY_FILE": str(folder / "signing-key.pem"),
                "HOST": at_service.address,
                "TRUSTED_PROXIES": _HERE,
                "METRICS_PORT": "0",
                "WORKERS": "2",
            }
        )

        def start(host: Host, *command: str) -> Child:
            program = [*host.prefix, sys.executable, str(APP), *command]
            child = Child(host.name, program, folder, settings)
            stack.callback(child.kill)
            return child

        service = start(at_service, "serve", "--no-upkeep")
        server = LiveServer(8080, service.log, settings, service.process, at_service.address)
        wait_for(server.is_healthy, _START_SECONDS)
        for each in workers:
            start(each, "work")
        shop = stack.enter_context(open_shop(database_url, folder / "signing-key.pem", server.url))
        newcomers = Newcomers(server.url, shop.database)
        cuts = Cuts(workers, at_broker, inbox, lengths)
        found = keep_busy(shop, server.url, receiver, cuts.run, [newcomers.sign_up])
        mail = newcomers.measures(inbox)
        assert not mail["lost"], mail
        return f"{found}; {mail['confirmed']:.0f} messages owed, {mail['again']:.0f} of them twice"


def main() -> None:
    """Print a line for each cut and one for the checks, or stop at the first failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[15.0, 90.0])
    given = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("only root can make network namespaces")
    say(run(given.seconds))


if __name__ == "__main__":
    main()
