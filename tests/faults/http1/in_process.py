"""The server's protocol in the test's own event loop, over a transport that tests can inspect."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import NamedTuple

from starlette.types import Receive, Scope, Send
from typing_extensions import override
from uvicorn.server import ServerState

from api.server.http1.limits import ConnectionLimits, ProtocolConfig
from api.server.http1.protocol import HttpProtocol
from api.server.problem_documents import Problems
from tests.faults.http1.small_service import KINDS, PUBLIC_URL

LARGE = b"x" * 200_000
"""The answer to `/large`, which is more than a connection buffers."""

_HIGH_WATER = 65_536
_FINAL = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ")


class Request(NamedTuple):
    """A request that arrived whole."""

    method: str
    path: str
    query: str
    body: bytes


class Application:
    """Reads requests, and notes and answers those that arrive whole, `/hold` when it is told to."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.started = 0
        self.requests: list[Request] = []
        self.config = ProtocolConfig(
            self,
            HttpProtocol,
            limits=ConnectionLimits(),
            problem_types=Problems(PUBLIC_URL, KINDS).types,
            draining=threading.Event(),
            graceful_seconds=1,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started += 1
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        path, query = scope["raw_path"].decode(), scope["query_string"].decode()
        self.requests.append(Request(scope["method"], path, query, body))
        if path == "/hold":
            await self.released.wait()
        answer = LARGE if path == "/large" else b"answer"
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def final_statuses(answers: bytes | bytearray) -> list[int]:
    """Return the statuses of answers of the application and the server, without interim ones."""
    return [int(status) for status in _FINAL.findall(answers)]


class Connection(asyncio.Transport):
    """A connection to the application, from a client that takes answers if `takes` is true."""

    def __init__(self, app: Application, *, takes: bool = True) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol = HttpProtocol(app.config, ServerState(), {})
        self._app = app
        self._takes = takes
        self._untaken = 0
        self._closing = False
        self._reading = True
        self._pieces: list[bytes] = []
        self.protocol.connection_made(self)

    async def send(self, *pieces: bytes) -> None:
        """Send one piece after another, and wait after each until nothing happens any more."""
        for piece in pieces:
            self._pieces.append(piece)
            self._deliver()
            await self.settle()

    async def settle(self) -> None:
        """Wait until nothing happens any more."""
        before = None
        while before != (before := (self._app.started, len(self._app.requests), len(self.written))):
            for _ in range(8):
                await asyncio.sleep(0)

    async def take(self) -> None:
        """Take what was written."""
        self._untaken = 0
        self.protocol.resume_writing()
        await self.settle()

    def end(self) -> None:
        """Lose the connection."""
        self._closing = True
        self.protocol.connection_lost(None)

    @property
    def answers(self) -> list[int]:
        """The statuses of the final answers that were written."""
        return final_statuses(self.written)

    @property
    def undelivered(self) -> int:
        """How many bytes the server has not read."""
        return sum(map(len, self._pieces))

    def _deliver(self) -> None:
        while self._pieces and self._reading and not self._closing:
            self.protocol.data_received(self._pieces.pop(0))

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if not self._takes:
            self._untaken += len(data)
            if self._untaken > _HIGH_WATER:
                self.protocol.pause_writing()

    @override
    def get_write_buffer_size(self) -> int:
        return self._untaken

    @override
    def pause_reading(self) -> None:
        self._reading = False

    @override
    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self._deliver)

    @override
    def is_reading(self) -> bool:
        return self._reading

    @override
    def can_write_eof(self) -> bool:
        return False

    @override
    def close(self) -> None:
        self._closing = True

    @override
    def abort(self) -> None:
        self._closing = True

    @override
    def is_closing(self) -> bool:
        return self._closing
