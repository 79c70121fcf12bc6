"""A server that receives webhooks, and remembers them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TypeVar

from typing_extensions import override

T = TypeVar("T")


@dataclass
class Received:
    """A request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server that receives webhooks, and answers with `status` and `headers` after `seconds`."""

    url: str
    status: int = 204
    text: bytes = b""
    seconds: float = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    def of(self, path: str) -> list[Received]:
        return [each for each in self.received if each.path == path]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Connections that may wait. With the default of 5, a batch of deliveries would lose some."""

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Keep the output of the tests free of senders that were killed."""


@contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    """Receive webhooks until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:
                # The sender was killed.
                return
            receiver.received.append(Received(self.path, dict(self.headers.items()), body))
            time.sleep(receiver.seconds)
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            if receiver.status != 204:
                self.send_header("Content-Length", str(len(receiver.text)))
            self.end_headers()
            if receiver.status != 204:
                self.wfile.write(receiver.text)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Keep the output of the tests free of requests."""

    with _Server((host, 0), Handler) as server:
        receiver = Receiver(f"http://{host}:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def wait_for(find: Callable[[], T], seconds: float = 30) -> T:
    """What `find` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return found
