"""Requests whose bodies are sent manually: slowly, endlessly, or with the wrong length."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

from tests.service import Service


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
