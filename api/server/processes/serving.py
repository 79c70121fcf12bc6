"""Serving: sockets, processes, signals and a graceful stop.

uvicorn runs the application; `api.server.http1` speaks HTTP. On SIGTERM, a process first reports
that it is not ready while it still serves, so that load balancers stop sending requests. It then
stops listening, finishes requests in flight and exits, all within a fixed time.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from api.server.http1.limits import ConnectionLimits, ProtocolConfig
from api.server.http1.protocol import HttpProtocol
from api.server.problem_documents import ProblemType
from api.server.processes import supervisor
from api.server.processes.standard_error import patient_standard_error
from api.server.processes.workers import Pulse, Workers

_log = logging.getLogger(__name__)

START_FAILED = 3
"""Exit code of a process whose application failed to start, before it listened."""

_DESCRIPTORS = 65_536
_MARGIN_SECONDS = 2.0
_BEAT_SECONDS = 1.0
_UNSENT_BYTES = 128 * 1024


class Service(Protocol):
    """An ASGI application, and an event after which it reports that it is not ready."""

    @property
    def draining(self) -> threading.Event:
        """Set by the server when the process is told to stop; the application is then not ready."""

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Take a function that counts the open connections."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or the lifespan, which the application must support."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Address and times of a server. Durations are in seconds."""

    host: str
    port: int
    """Port to listen on. 0 selects a free port, which is logged."""
    problem_types: Mapping[str, ProblemType]
    """Kinds of error by slug, for refusals."""
    cors_origins: Sequence[str] = ()
    """Origins whose scripts may read refusals."""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    drain_seconds: float = 0.0
    """Time between SIGTERM and closing the socket, in which the process reports not ready."""
    stop_seconds: float = 28.0
    """Time between SIGTERM and the end of the process, even if requests are still running."""

    def __post_init__(self) -> None:
        if self.graceful_seconds <= 0:
            raise ValueError("stop_seconds leaves no time after drain_seconds to finish requests")

    @property
    def graceful_seconds(self) -> float:
        """Time for requests in flight to finish after the socket has been closed."""
        return self.stop_seconds - self.drain_seconds - _MARGIN_SECONDS


def serve(service: Service, options: ServerOptions) -> None:
    """Serve in this process until SIGTERM or SIGINT, then return.

    Raises:
        OSError: the address is not available.
        SystemExit: with START_FAILED, if the application's lifespan failed before it listened.
    """
    _serve_on(_bind(options), service, options, None)


def serve_workers(
    factory: Callable[[], Service],
    options: ServerOptions,
    workers: int,
    has_ended: Callable[[int], None],
) -> None:
    """Serve from `workers` new processes on one socket until SIGTERM or SIGINT, then return.

    Each process unpickles and calls `factory`, which also sets up logging. A process that ends or
    hangs is replaced, and `has_ended` is called with its id.

    Raises:
        OSError: the address is not available.
        SystemExit: with START_FAILED, if the first processes failed to start; with 1, if one had
            to be killed.
    """
    with _bind(options) as listener:
        work = functools.partial(_serve_made, factory, options, listener)
        code = Workers(work, START_FAILED, options.stop_seconds, has_ended).run(workers)
    if code:
        sys.exit(code)


def _bind(options: ServerOptions) -> socket.socket:
    """Bind the address without listening, which starts only once the application has started."""
    found = socket.getaddrinfo(
        options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit this option. Otherwise the kernel would buffer megabytes of responses
        # for a client that does not read, and the next pipelined request would start for each of
        # them.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _serve_on(
    listener: socket.socket, service: Service, options: ServerOptions, pulse: Pulse | None
) -> None:
    _allow_descriptors()
    # Objects created so far stay in memory. Freezing them keeps later garbage collections, which
    # delay requests, from examining them again.
    gc.collect()
    gc.freeze()
    config = ProtocolConfig(
        service,
        HttpProtocol,
        limits=options.limits,
        problem_types=options.problem_types,
        draining=service.draining,
        cors_origins=options.cors_origins,
        # Requests that outlive their connection are cancelled.
        graceful_seconds=math.ceil(options.graceful_seconds + _MARGIN_SECONDS / 2),
    )
    server = _Server(config, service.draining, options, pulse)
    service.watch_connections(lambda: len(server.server_state.connections))
    server.run(sockets=[listener])


def _allow_descriptors() -> None:
    """Raise the limit of open files: each connection needs one, and the default is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    """uvicorn's server with a draining period, and a deadline that no client can extend."""

    def __init__(
        self,
        config: ProtocolConfig,
        draining: threading.Event,
        options: ServerOptions,
        pulse: Pulse | None,
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._options = options
        self._pulse = pulse
        self._told_at: float | None = None
        self._leave_at = math.inf
        self._parent = multiprocessing.parent_process()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
        supervisor.report(supervisor.READY)
        self._beat()

    def _beat(self) -> None:
        """Send heartbeats for as long as the event loop runs."""
        if self._pulse is not None:
            self._pulse.beat()
            asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Unlike uvicorn, this does not raise the signal again, so that a process that was told to
        # stop exits with 0. A supervisor and its process group may both have sent SIGTERM.
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
            self._leave_at = now + self._options.drain_seconds
            self._draining.set()
            supervisor.report(supervisor.STOPPING)
        if sig == signal.SIGINT:
            self.force_exit = self.should_exit
            self._leave_at = now

    @override
    async def on_tick(self, counter: int) -> bool:
        if self._told_at is None and self._parent is not None and not self._parent.is_alive():
            # Nobody would stop this process, and another one may want its port.
            self.handle_exit(signal.SIGINT, None)
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
        # Requests that idle clients have already sent are read before their connections are
        # closed.
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        loop.call_later(self._options.graceful_seconds, self._drop_connections)
        await super().shutdown(sockets)

    def _drop_connections(self) -> None:
        _log.warning("%d connections are aborted", len(self.server_state.connections))
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpProtocol):
                # The application is told that the client has disconnected.
                connection.transport.abort()


def _end_process() -> None:
    """End the process by force, because a thread that never returns would keep it running."""
    _log.error("the process did not stop in time and is ended by force")
    sys.stderr.close()
    os._exit(1)


def _serve_made(
    factory: Callable[[], Service],
    options: ServerOptions,
    listener: socket.socket,
    pulse: Pulse,
) -> None:
    """Create the service and serve, in a worker process."""
    with patient_standard_error():
        try:
            service = factory()
        except Exception:  # noqa: BLE001 - Whatever it is, the next try would meet it again.
            _log.exception("the application could not be created")
            sys.exit(START_FAILED)
        _serve_on(listener, service, options, pulse)
