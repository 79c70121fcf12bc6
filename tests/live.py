"""The service as it runs: `python app.py serve` in a process of its own, on a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

APP = Path(__file__).parents[1] / "app.py"
PROGRAM = (sys.executable, str(APP))
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "SYSTEMROOT", "VIRTUAL_ENV")


class ServerDidNotStartError(Exception):
    """The process ended, or did not answer in time; the text is its log."""


@dataclass(frozen=True)
class LiveServer:
    """A running service, and what its operator can see of it."""

    port: int
    log: Path
    environment: Mapping[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)
    host: str = HOST

    @property
    def url(self) -> str:
        """Where it is reached, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    def log_text(self) -> str:
        """Everything that the process wrote to standard output and standard error so far."""
        return self.log.read_text("utf-8", "backslashreplace")

    def is_healthy(self, seconds: float = 5.0) -> bool:
        """Whether `GET /health` answers 200 within `seconds`."""
        return is_healthy(self.port, self.host, seconds)

    def command(self, *arguments: str, **environment: str) -> str:
        """Run `python app.py …` against the same database and return what it printed.

        Raises subprocess.CalledProcessError when it does not exit with 0.
        """
        finished = subprocess.run(  # noqa: S603 - our own interpreter and file.
            [sys.executable, str(APP), *arguments],
            env={**self.environment, **environment},
            cwd=self.log.parent,
            capture_output=True,
            check=True,
            timeout=START_SECONDS,
        )
        return finished.stdout.decode()


def is_healthy(port: int, host: str = HOST, seconds: float = 5.0) -> bool:
    """Whether `GET /health` answers 200 within `seconds`."""
    connection = HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server(tmp_path: Path, **environment: str) -> Iterator[LiveServer]:
    """Serve with `python app.py` as `running_program` does."""
    with running_program(PROGRAM, tmp_path, environment) as server:
        yield server


@contextmanager
def running_worker(
    tmp_path: Path,
    environment: Mapping[str, str],
    name: str = "worker",
    program: Sequence[str] = PROGRAM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Do background work with `python app.py work`, or another program, until the block ends.

    It logs to the file `name`.log. At the end the process gets SIGTERM, and must exit with 0 unless
    the block killed it.

    Raises AssertionError when it does not stop properly.
    """
    settings = {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "METRICS_PORT": "0",
        "STORAGE_URL": f"file:{tmp_path / 'files'}",
        **environment,
    }
    log = tmp_path / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and file.
            [*program, "work"],
            env=settings,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        code = _stop(process)
    told = log.read_text("utf-8", "backslashreplace")
    assert code in {0, -signal.SIGKILL}, f"the worker exited with {code}:\n{told[-4000:]}"


@contextmanager
def running_program(
    program: Sequence[str], tmp_path: Path, environment: Mapping[str, str], *options: str
) -> Iterator[LiveServer]:
    """Serve from an empty folder with its own embedded database until the block ends.

    `program` runs the command line, with `options` of `serve`. `environment` holds the service's
    settings; nothing but paths and the locale is inherited, so that the settings of the shell that
    runs the tests have no say.
    At the end the process gets SIGTERM and must exit with 0 within STOP_SECONDS.

    Raises ServerDidNotStartError, and AssertionError when it does not stop properly.
    """
    port = free_port()
    settings = {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "PYTHONUNBUFFERED": "1",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'concord.sqlite3'}",
        "STORAGE_URL": f"file:{tmp_path / 'files'}",
        **environment,
    }
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and file.
            [*program, "serve", *options],
            env=settings,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = LiveServer(port, log, settings, process)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        code = _stop(process)
    # Not in the `finally` block, so that an error of the block itself is what is reported.
    assert code == 0, f"the server exited with {code}:\n{server.log_text()[-4000:]}"


def _wait_until_healthy(server: LiveServer) -> None:
    until = time.monotonic() + START_SECONDS
    while not server.is_healthy():
        if server.process.poll() is not None or time.monotonic() > until:
            raise ServerDidNotStartError(server.log_text()[-4000:])
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> int:
    """Ask the process to end, by force if it does not; its exit code, negative for a signal."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
