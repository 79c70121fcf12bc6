"""Limits for client connections, and how uvicorn's protocol receives them."""

import asyncio
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from api.server.problem_documents import ProblemType


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits for a client connection. Durations are in seconds, sizes in bytes."""

    header_bytes: int = 32 * 1024
    """Maximum size of a request's request line, headers and trailers together."""
    header_fields: int = 100
    """Maximum number of a request's headers and trailers together. Small ones take twenty times
    their size in memory."""
    header_seconds: float = 10.0
    """Time from a request's first byte, or the connection's start, to the end of its headers."""
    keep_alive_seconds: int = 30
    """Time between a response and the next request."""
    waiting_requests: int = 16
    """Maximum number of pipelined requests that wait for earlier responses."""
    write_seconds: float = 20.0
    """Time for a client to receive a response that fills the write buffer."""
    linger_seconds: float = 2.0
    """Time for a client to receive a response that was sent before its request had been read."""


class ProtocolConfig(uvicorn.Config):
    """uvicorn's configuration, extended by settings of the protocol.

    `problem_types` are the kinds of error that the protocol sends. `draining` is set when the
    process has been told to stop. `graceful_seconds` is the time after which uvicorn cancels
    requests that are still running. Scripts of `cors_origins` may read refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        protocol: type[asyncio.Protocol],
        *,
        limits: ConnectionLimits,
        problem_types: Mapping[str, ProblemType],
        draining: threading.Event,
        graceful_seconds: int,
        cors_origins: Iterable[str] = (),
    ) -> None:
        self.limits = limits
        self.problem_types = problem_types
        self.draining = draining
        self.cors_origins = frozenset(origin.encode() for origin in cors_origins)
        super().__init__(
            app,
            loop="uvloop",
            http=protocol,
            ws="none",
            interface="asgi3",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=graceful_seconds,
        )
