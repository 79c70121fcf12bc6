"""The transport of a connection: when it closes, and when reading from it resumes."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from typing_extensions import override
from uvicorn.protocols.http.flow_control import FlowControl


class Timer(Protocol):
    """The part of `loop.call_later`'s result that is used here."""

    def cancel(self) -> None:
        """Cancel the call."""


class ClosingTransport(asyncio.Transport):
    """The transport of a connection, whose close loses no response and takes a bounded time.

    Closing a socket with unread bytes resets the connection, and a reset can discard a response
    that the client has not read yet. If more of the request is expected, only the sending side is
    therefore closed, and the protocol reads and discards the rest for at most `linger_seconds`
    (RFC 9112, section 9.6). Otherwise the socket is closed once the response has been written,
    which the client can delay by `write_seconds`.
    """

    def __init__(
        self,
        connection: asyncio.Transport,
        *,
        expects_more: Callable[[], bool],
        linger_seconds: float,
        write_seconds: float,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._expects_more = expects_more
        self._linger_seconds = linger_seconds
        self._write_seconds = write_seconds
        self._closing = False
        self._end: Timer | None = None

    @override
    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._expects_more() and self._connection.can_write_eof():
            self._connection.write_eof()
            if not self._connection.is_reading():
                self._connection.resume_reading()
            self._abort_after(self._linger_seconds)
            return
        self._connection.close()
        if self._connection.get_write_buffer_size():
            self._abort_after(self._write_seconds)

    @override
    def abort(self) -> None:
        self._closing = True
        self._connection.abort()

    def forget(self) -> None:
        """Stop the timer, because the connection is lost."""
        self._closing = True
        # Otherwise the protocol and this object would stay in memory until the next garbage
        # collection.
        self._expects_more = bool
        if self._end is not None:
            self._end.cancel()
            self._end = None

    @override
    def is_closing(self) -> bool:
        return self._closing or self._connection.is_closing()

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._connection.write(data)

    @override
    def get_write_buffer_size(self) -> int:
        return self._connection.get_write_buffer_size()

    @override
    def pause_reading(self) -> None:
        self._connection.pause_reading()

    @override
    def resume_reading(self) -> None:
        self._connection.resume_reading()

    @override
    def get_extra_info(self, name: str, default: object = None) -> object:
        value: object = self._connection.get_extra_info(name, default)
        return value

    def _abort_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(seconds, self._connection.abort)


class PipelineFlow(FlowControl):
    """Flow control that does not resume reading while requests are waiting.

    uvicorn resumes reading after every response and whenever the application asks for a body.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    @override
    def resume_reading(self) -> None:
        if self.read_paused and not self._waiting():
            super().resume_reading()
