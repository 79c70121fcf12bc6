"""A small application behind the real server layer, run as a process of its own by test_server.

`python tests/faults/http1/small_service.py JSON` where JSON has the fields of `Setup`.
"""

import asyncio
import dataclasses
import functools
import json
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Receive, Scope, Send

from api.contract.compile.problem_kinds import ProblemKind
from api.server.http1.limits import ConnectionLimits
from api.server.problem_documents import Problems
from api.server.processes.serving import ServerOptions, serve, serve_workers

_log = logging.getLogger(__name__)

PUBLIC_URL = "https://api.example.test"
MEDIUM_BYTES = 256 * 1024
KINDS = {
    slug: ProblemKind(slug, status, title, *3 * (f"{title}.",))
    for slug, status, title in (
        ("malformed-request", 400, "Malformed request"),
        ("request-timeout", 408, "Request timeout"),
        ("header-fields-too-large", 431, "Header fields too large"),
    )
}
LARGE_BYTES = 32 * 1024 * 1024
LIMITS = ConnectionLimits(
    header_bytes=8192,
    header_seconds=0.6,
    keep_alive_seconds=1,
    write_seconds=0.6,
    linger_seconds=1.0,
)


@dataclass(frozen=True)
class Setup:
    """What a test decides of the server."""

    workers: int = 1
    drain_seconds: float = 0.0
    stop_seconds: float = 4.0
    fails_if_exists: str = ""
    """A path; the application fails to start if it is that of a file."""
    keep_alive_seconds: int = LIMITS.keep_alive_seconds


class SmallService:
    """Answers by path; see `_respond`."""

    def __init__(self, fails_if_exists: str) -> None:
        self.draining = threading.Event()
        self._fails = Path(fails_if_exists).is_file()
        self._seen: Counter[str] = Counter()

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Count nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        status, answer = await self._respond(scope, receive)
        body = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._fails:
            await send({"type": "lifespan.startup.failed", "message": "told to fail"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _respond(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, object]]:
        status = 200
        answer: dict[str, object] = {}
        self._seen[scope["path"]] += 1
        match scope["path"]:
            case "/wait":
                await asyncio.sleep(0.6)
                answer = {"waited": True}
            case "/hang":
                await asyncio.get_running_loop().run_in_executor(None, time.sleep, 30)
            case "/early":
                status = 413
            case "/ready":
                status = 503 if self.draining.is_set() else 200
            case "/large":
                answer = {"large": "x" * LARGE_BYTES}
            case "/seen":
                answer = {"paths": self._seen}
            case "/medium":
                answer = {"medium": "x" * MEDIUM_BYTES}
            case path if path.startswith("/echo/"):
                answer = {"path": path, "length": await _body_length(receive)}
            case "/length":
                answer = {"length": await _body_length(receive), "headers": _names(scope)}
            case _:
                answer = {"raw_path": scope["raw_path"].decode(), "headers": _names(scope)}
        return status, answer


def _names(scope: Scope) -> list[str]:
    return [name.decode() for name, _ in scope["headers"]]


async def _body_length(receive: Receive) -> int:
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            _log.warning("the client left after %d bytes", length)
            return length
        length += len(message["body"])
        if not message["more_body"]:
            return length


def make(fails_if_exists: str) -> SmallService:
    """What a process calls for its application; it sets up logging, as such a factory must."""
    logging.basicConfig(level="INFO", format="%(message)s")
    return SmallService(fails_if_exists)


def main(setup: Setup) -> None:
    """Serve on a free port of the loopback address, which the log names."""
    options = ServerOptions(
        "127.0.0.1",
        0,
        Problems(PUBLIC_URL, KINDS).types,
        cors_origins=["https://app.example"],
        limits=dataclasses.replace(LIMITS, keep_alive_seconds=setup.keep_alive_seconds),
        drain_seconds=setup.drain_seconds,
        stop_seconds=setup.stop_seconds,
    )
    factory = functools.partial(make, setup.fails_if_exists)
    if setup.workers == 1:
        serve(factory(), options)
    else:
        serve_workers(factory, options, setup.workers, lambda _pid: None)


if __name__ == "__main__":
    main(Setup(**json.loads(sys.argv[1])))
