"""The process side of serving: sockets, processes, signals and an orderly end.

uvicorn runs the application; `api.http1` speaks HTTP. On SIGTERM a process first stops
being ready while it still serves, so that load balancers turn away, then stops listening, finishes
what is in flight and ends, all within a fixed time.
"""

import asyncio
import functools
import gc
import logging
import math
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from api.http1.limits import ConnectionLimits, ProtocolConfig
from api.http1.protocol import HttpProtocol
from api.workers import Workers

_log = logging.getLogger(__name__)

START_FAILED = 3
"""The exit code of a process whose application could not start; nothing has listened."""

_DESCRIPTORS = 65_536
_MARGIN_SECONDS = 2.0


class Service(Protocol):
    """An ASGI application that can tell whether it should get new requests."""

    @property
    def draining(self) -> threading.Event:
        """Set by the server when the process has been told to stop: it is not ready any more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan, which it has to support."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and how to serve. Durations are in seconds."""

    host: str
    port: int
    """0 takes a free one, which the log names."""
    public_url: str
    """Without a slash at its end; the problem types of refused requests are below it."""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    drain_seconds: float = 0.0
    """From SIGTERM until the process stops listening. It is not ready in this time."""
    stop_seconds: float = 28.0
    """From SIGTERM until the process has ended, by force if a request does not end."""

    def __post_init__(self) -> None:
        if self.graceful_seconds <= 0:
            raise ValueError("stop_seconds leaves no time after drain_seconds to finish requests")

    @property
    def graceful_seconds(self) -> float:
        """For requests in flight to finish once the process no longer listens."""
        return self.stop_seconds - self.drain_seconds - _MARGIN_SECONDS


def serve(service: Service, options: ServerOptions) -> None:
    """Serve from this process until SIGTERM or SIGINT, then return.

    Raises:
        OSError: the address cannot be listened on.
        SystemExit: with START_FAILED, the application's lifespan failed; nothing has listened.
    """
    _serve_on(_bind(options), service, options)


def serve_workers(factory: Callable[[], Service], options: ServerOptions, workers: int) -> None:
    """Serve from `workers` new processes on one socket until SIGTERM or SIGINT, then return.

    `factory` is pickled to each process and called there; it also sets up logging. A process that
    ends by itself is replaced, unless it could not start.

    Raises:
        OSError: the address cannot be listened on.
        SystemExit: with START_FAILED, a process could not start; 1, one had to be killed.
    """
    with _bind(options) as listener:
        work = functools.partial(_serve_made, factory, options, listener)
        code = Workers(work, START_FAILED, options.stop_seconds).run(workers)
    if code:
        sys.exit(code)


def _bind(options: ServerOptions) -> socket.socket:
    """Take the address without listening on it, which is for later, when all has started."""
    found = socket.getaddrinfo(
        options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _serve_on(listener: socket.socket, service: Service, options: ServerOptions) -> None:
    _allow_descriptors()
    # What has been made by now stays: a search for garbage that looks at it again, while requests
    # wait, finds none.
    gc.collect()
    gc.freeze()
    config = ProtocolConfig(
        service,
        HttpProtocol,
        limits=options.limits,
        public_url=options.public_url,
        draining=service.draining,
        # A request that outlives its connection is cancelled.
        graceful_seconds=math.ceil(options.graceful_seconds + _MARGIN_SECONDS / 2),
    )
    _Server(config, service.draining, options).run(sockets=[listener])


def _allow_descriptors() -> None:
    """Each connection is a descriptor, and the usual limit of 1,024 would be a cap on clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    """uvicorn's server with a time in which it drains, and an end that no client puts off."""

    def __init__(
        self, config: ProtocolConfig, draining: threading.Event, options: ServerOptions
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._options = options
        self._told_at: float | None = None
        self._leave_at = math.inf
        self._parent = multiprocessing.parent_process()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The signal is not kept to be raised again, as uvicorn does: a process that stops because
        # it was asked to exits with 0. A supervisor and its group may both have sent SIGTERM.
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
            self._leave_at = now + self._options.drain_seconds
            self._draining.set()
        if sig == signal.SIGINT:
            self.force_exit = self.should_exit
            self._leave_at = now

    @override
    async def on_tick(self, counter: int) -> bool:
        if self._parent is not None and not self._parent.is_alive():
            self.handle_exit(signal.SIGTERM, None)
        if time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._told_at is not None:
            left = self._told_at + self._options.stop_seconds - time.monotonic()
            last_resort = threading.Timer(left, _end_process)
            last_resort.daemon = True
            last_resort.start()
        for server in self.servers:
            server.close()
        # What idle clients have already sent is read before their connections are closed.
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        loop.call_later(self._options.graceful_seconds, self._drop_connections)
        await super().shutdown(sockets)

    def _drop_connections(self) -> None:
        _log.warning("%d connections did not end in time", len(self.server_state.connections))
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpProtocol):
                # Its application sees that the client has gone.
                connection.transport.abort()


def _end_process() -> None:
    """A thread that never returns would keep the interpreter from ending."""
    _log.error("the process did not end in time and is ended by force")
    os._exit(1)


def _serve_made(
    factory: Callable[[], Service], options: ServerOptions, listener: socket.socket
) -> None:
    """What a worker process runs."""
    try:
        service = factory()
    except Exception:  # noqa: BLE001 - Whatever it is, the next try would meet it again.
        _log.exception("the application could not be made")
        sys.exit(START_FAILED)
    _serve_on(listener, service, options)
