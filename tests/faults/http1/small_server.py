"""The small service in a process of its own, and what comes back from it over raw sockets."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.http1.small_service import Setup

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("small_service.py")
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW_UPLOAD = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\nabc"


@dataclasses.dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    log: Path

    def log_text(self) -> str:
        return self.log.read_text()

    def ports(self) -> list[int]:
        """The port of each process that listens, in the order in which they began to."""
        return [int(found) for found in re.findall(r"listening on \S+:(\d+)", self.log_text())]

    def says(self, text: str) -> bool:
        """Whether the log has `text` now or soon."""
        until = time.monotonic() + 60
        while text not in self.log_text() and time.monotonic() < until:
            time.sleep(0.02)
        return text in self.log_text()

    @property
    def port(self) -> int:
        return self.ports()[0]

    def connect(self, first: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(first)
        return connection

    def ask(self, request: bytes) -> bytes:
        """Everything that comes back until the server closes the connection."""
        with self.connect() as connection:
            # It may hang up early, and then what it said is still there to be read.
            with suppress(ConnectionError):
                connection.sendall(request)
            return read_all(connection)

    def stop(self, signum: int = signal.SIGTERM) -> None:
        self.process.send_signal(signum)

    def wait(self) -> int:
        return self.process.wait(15)


@contextmanager
def started(setup: Setup) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and file.
            [sys.executable, str(PROGRAM), json.dumps(dataclasses.asdict(setup))],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        server = Server(process, Path(folder, "log"))
        try:
            until = time.monotonic() + 30
            while len(server.ports()) < setup.workers and process.poll() is None:
                assert time.monotonic() < until, server.log_text()
                time.sleep(0.02)
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(15)


def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            received += piece
    return bytes(received)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next answer on a connection that stays open; it has to have a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65_536)
        assert piece, received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, headers = parse_head(head)
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65_536)
    return status, headers, body


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines)
