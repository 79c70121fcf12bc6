"""A connection whose closing takes a bounded time and whose last answer arrives."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from typing_extensions import override


class Timer(Protocol):
    """What `loop.call_later` returns, as far as it is used here."""

    def cancel(self) -> None:
        """Have the call not made."""


class ClosingTransport(asyncio.Transport):
    """The transport of a connection, with a close that neither cuts the answer nor lasts.

    A socket that is closed while bytes of the client wait unread is reset, and a reset may throw
    away an answer that the client has not read yet. So when more of the request is expected, only
    the sending half is closed and what still arrives is read by the protocol, which discards it,
    for at most `linger_seconds` (RFC 9112 section 9.6). When nothing more is expected the socket
    is closed once the answer is written, for which the client has `write_seconds`.
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
        """Stop the timer: the connection is gone."""
        self._closing = True
        # The protocol and this object would otherwise keep each other until a collection.
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
