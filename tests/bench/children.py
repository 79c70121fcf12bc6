"""Processes that can be killed and restarted, including brokers."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kombu.connection import Connection

from tests.live import HOST, INHERITED, free_port
from tests.tools import find_tool


class Child:
    """A process that can be killed and restarted."""

    def __init__(
        self, name: str, command: list[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Start the process in `folder`, where it logs to a file named after it."""
        self._command = command
        self._folder = folder
        self._environment = environment
        self.log = folder / f"{name}.log"
        self.process = self._start()

    def kill(self) -> None:
        """Kill the process and all processes that it started."""
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
                # A process group of its own, so that no process is left.
                start_new_session=True,
            )


def redis_of(folder: Path) -> tuple[Child, str]:
    """Start a Redis server of our own, and return it with its URL."""
    port = free_port()
    options = ["--save", "", "--appendonly", "no", "--dir", str(folder), "--port", str(port)]
    command = [find_tool("redis-server"), *options]
    return Child("broker", command, folder, inherited()), f"redis://{HOST}:{port}/0"


def rabbitmq_of(folder: Path, host: str = HOST, prefix: Sequence[str] = ()) -> tuple[Child, str]:
    """Start a RabbitMQ server of our own at an address, and return it with its URL.

    `prefix` begins the command, for example to run it on another host.
    """
    port = free_port()
    settings = folder / "rabbitmq.conf"
    settings.write_text("loopback_users = none\n")
    environment = inherited() | {
        "RABBITMQ_NODENAME": f"concord-bench-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": host,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "no-plugins"),
        "RABBITMQ_CONFIG_FILE": str(settings),
        "HOME": str(folder),
    }
    command = [*prefix, "/usr/lib/rabbitmq/bin/rabbitmq-server"]
    return Child("broker", command, folder, environment), f"amqp://guest:guest@{host}:{port}//"


def inherited() -> dict[str, str]:
    """Return the paths and the locale of this process, which are all that a child needs."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def is_reachable(url: str) -> bool:
    """Whether a broker accepts connections."""
    with Connection(url, connect_timeout=5) as connection:  # type: ignore[no-untyped-call]  # It has no types.
        try:
            connection.ensure_connection(max_retries=1, timeout=5)
        except Exception:  # noqa: BLE001 - each broker has its own errors.
            return False
    return True
