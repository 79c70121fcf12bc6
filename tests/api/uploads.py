"""Requests whose bodies are sent manually: slowly, endlessly, or with the wrong length."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

from tests.service import Service

_AT_ONCE = 100
"""Requests whose answers wait in buffers until they are read."""


class Upload:
    """One request that is under way."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer

    def send(self, data: bytes) -> None:
        """Send some more of it."""
        self.peer.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        """Send a chunk of a chunked body."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self) -> HTTPResponse:
        """Wait for the answer and read it; its `read()` gives the body."""
        response = HTTPResponse(self.peer)
        response.begin()
        return response


@contextmanager
def upload(service: Service, head: str, *, seconds: float = 20) -> Iterator[Upload]:
    """Open a connection and send the request line and fields of `head`, one a line."""
    url = urlsplit(service.url)
    with socket.create_connection((url.hostname, url.port), timeout=seconds) as peer:
        lines = [line.strip() for line in head.strip().splitlines()]
        peer.sendall("\r\n".join([*lines, "Host: a", "", ""]).encode("latin-1"))
        yield Upload(peer)


def statuses_of(service: Service, head: str, count: int) -> list[int]:
    """Send one request many times, many at once: one by one through a client costs much more."""
    statuses: list[int] = []
    for start in range(0, count, _AT_ONCE):
        further = min(_AT_ONCE, count - start) - 1
        requests = f"{head.strip()}\nHost: a\n\n" * further + f"{head.strip()}\nConnection: close"
        with upload(service, requests) as request:
            received = request.peer.makefile("rb").read()
        statuses += map(int, re.findall(rb"HTTP/1\.1 (\d+) ", received))
    return statuses
