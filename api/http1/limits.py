"""What a client may take of a connection, and how uvicorn's protocol is told."""

import asyncio
import threading
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take of one connection. Durations are in seconds, sizes in bytes."""

    header_bytes: int = 32 * 1024
    """The request line, the headers and the trailers of one request together."""
    header_seconds: float = 10.0
    """From the first byte of a request, or from the connection's start, to the empty line."""
    keep_alive_seconds: int = 30
    """Between an answer and the next request."""
    write_seconds: float = 20.0
    """For a client to take what has been written to it when that has piled up."""
    linger_seconds: float = 2.0
    """For a client to take an answer that was given before the whole request had been read."""


class ProtocolConfig(uvicorn.Config):
    """uvicorn's configuration, with ours for the protocol beside it.

    `draining` is set when the process has been told to stop; `graceful_seconds` is when uvicorn
    cancels what has still not ended.
    """

    def __init__(
        self,
        app: ASGIApp,
        protocol: type[asyncio.Protocol],
        *,
        limits: ConnectionLimits,
        public_url: str,
        draining: threading.Event,
        graceful_seconds: int,
    ) -> None:
        self.limits = limits
        self.public_url = public_url
        self.draining = draining
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
