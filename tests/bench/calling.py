"""Applications called without a network: requests go in as ASGI scopes or WSGI environments.

`python tests/bench/calling.py NAME KIND` is such an application in a process of its own. It reads
from its input the name of an operation and how many requests it is to do, and writes the
microseconds of processor time that one took; nothing else of it is on its output.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import asyncio
import contextlib
import importlib
import io
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import uvloop

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.contenders import CONTENDERS
from tests.bench.operations import KEY, OPERATIONS, Request
from tests.bench.seeding import Shop

AsgiApp: TypeAlias = Callable[..., Awaitable[None]]
WsgiApp: TypeAlias = Callable[..., Iterable[bytes]]
ACCOUNTS = 25
_keys = itertools.count()


class Call(Protocol):
    """Answers requests, one after the other, and returns their statuses."""

    def __call__(self, requests: Iterable[Request]) -> list[int]:
        """Call the application."""


@contextlib.contextmanager
def asgi(app: AsgiApp) -> Iterator[Call]:
    """Call an ASGI application, its lifespan around all calls."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        started = asyncio.Event()
        ended.put_nowait({"type": "lifespan.startup"})

        async def said(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.complete":
                started.set()

        async def start() -> asyncio.Task[None]:
            running = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, ended.get, said))
            await started.wait()
            return running

        lifespan = runner.run(start())

        async def each(requests: Iterable[Request]) -> list[int]:
            return [await ask(app, request) for request in requests]

        def call(requests: Iterable[Request]) -> list[int]:
            return runner.run(each(requests))

        yield call

        async def stop() -> None:
            ended.put_nowait({"type": "lifespan.shutdown"})
            await lifespan

        runner.run(stop())


async def ask(app: AsgiApp, request: Request) -> int:
    """Ask an ASGI application; the status of its answer."""
    url = urlsplit(request.path)
    key = f"call-{os.getpid()}-{next(_keys)}"
    headers = [
        (name.lower().encode(), value.replace(KEY, key).encode()) for name, value in request.headers
    ]
    if request.body:
        headers.append((b"content-length", str(len(request.body)).encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": url.path,
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    messages = [{"type": "http.request", "body": request.body, "more_body": False}]
    status = 0
    complete = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif not message.get("more_body", False):
            complete.set()

    await app(scope, receive, send)
    return status


@contextlib.contextmanager
def wsgi(app: WsgiApp) -> Iterator[Call]:
    """Call a WSGI application."""

    def ask_once(request: Request) -> int:
        url = urlsplit(request.path)
        key = f"call-{os.getpid()}-{next(_keys)}"
        environ: dict[str, object] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers:
            variable = name.upper().replace("-", "_")
            prefix = "" if variable == "CONTENT_TYPE" else "HTTP_"
            environ[prefix + variable] = value.replace(KEY, key)
        if request.body:
            environ["CONTENT_LENGTH"] = str(len(request.body))
        statuses: list[str] = []
        chunks = app(environ, lambda status, _headers, _error=None: statuses.append(status))
        for _ in chunks:
            pass
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
        return int(statuses[-1].partition(" ")[0])

    yield lambda requests: [ask_once(request) for request in requests]


def application(name: str) -> contextlib.AbstractContextManager[Call]:
    """Make the application of a contender from the settings in the environment."""
    contender = next(each for each in CONTENDERS if each.name == name)
    if contender.kind == "concord":
        # Imported here, so that the process of a peer holds nothing of Concord's engine.
        from api.server.settings import Settings  # noqa: PLC0415 - See above.
        from app import create_app  # noqa: PLC0415 - See above.

        return asgi(create_app(Settings.from_environment(os.environ)))
    app = importlib.import_module(f"tests.bench.peers.{contender.module}").app
    return asgi(app) if contender.kind == "asgi" else wsgi(app)


def repeat(call: Call, requests: Iterable[Request], times: int) -> float:
    """Microseconds of processor time, all threads together, that a request takes.

    Each call starts at the first request, except that an endless iterator continues.

    Raises:
        RuntimeError: an answer is a failure of the server.
    """
    turn = itertools.islice(itertools.cycle(requests), times)
    begun = time.process_time()
    statuses = call(turn)
    spent = time.process_time() - begun
    if max(statuses) >= 500 or 429 in statuses:
        raise RuntimeError(f"statuses {sorted(set(statuses))}")
    return spent / times * 1e6


def main() -> None:
    """Answer on the output what the input asks."""
    output = os.fdopen(os.dup(1), "w")
    # What the application prints is no answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    shop = Shop(os.environ["BENCH_DATABASE_URL"], Path(os.environ["BENCH_SIGNING_KEY_FILE"]))
    prepared = {
        # So few accounts that each asks about as often in a second as under load.
        each.name: itertools.cycle(each.prepare(shop)[: None if each.is_rare else ACCOUNTS])
        for each in OPERATIONS
        if each.database == sys.argv[2]
    }
    with application(sys.argv[1]) as call:
        for line in sys.stdin:
            name, times = line.split()
            print(repeat(call, prepared[name], int(times)), file=output, flush=True)


if __name__ == "__main__":
    main()
