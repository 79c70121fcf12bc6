"""HTTP/1.1 on one connection: uvicorn's protocol with deadlines, limits and problem documents.

uvicorn waits indefinitely for a request's headers, buffers any number of headers and of pipelined
requests, and responds to malformed requests in text/plain. This subclass bounds each of those, and
responds with application/problem+json (RFC 9457). The deadline for bodies applies where they are
read, not here.

The parser receives one message at a time. Bytes after the end of a request are parsed only if the
connection stays open after that request and there is room for another one.
"""

import asyncio
import logging
import uuid
from typing import Any, cast

import httptools
import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.server.http1 import refusals
from api.server.http1.limits import ProtocolConfig
from api.server.http1.refusals import Refusal, cors_headers
from api.server.http1.request_head import RequestHead, UnacceptableHead
from api.server.http1.transport import ClosingTransport, PipelineFlow, Timer

_log = logging.getLogger(__name__)

_EMPTY_LINE = b"\r\n\r\n"
_MOST_PIECES = 100
"""Maximum number of pieces of a chunked body in one read."""


class HttpProtocol(HttpToolsProtocol):
    """A client connection. All bytes sent come from the application or from a refusal."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        # uvicorn passes the protocol the configuration of its server.
        ours = cast("ProtocolConfig", config)
        self._limits = ours.limits
        self._problem_types = ours.problem_types
        self._draining = ours.draining
        self._cors_origins = ours.cors_origins
        self._closer: ClosingTransport | None = None
        self._refusal: Refusal | None = None
        self._head = RequestHead(ours.limits)
        self._header_timer: Timer | None = None
        self._write_timer: Timer | None = None
        # Number of responses still to be sent: one request is running, the others are pipelined.
        self._owed = 0
        # State of the newest request: reading its headers, its body, or neither.
        self._in_head = False
        self._in_body = False
        self._keep_alive = False
        # Bytes read since the parser last made progress.
        self._unparsed_size = 0
        # Empty lines of a chunked body in the bytes last read, and the end of the bytes before.
        self._pieces = 0
        self._tail = b""
        # No further request is read from this connection.
        self._last = False
        # Bytes read after a request when there was no room for another one.
        self._unread = b""
        self._waiting_size = 0
        # The last response is written, but the client has not yet received enough of it.
        self._untaken = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # As uvicorn has it.
        self._closer = ClosingTransport(
            transport,
            expects_more=lambda: self._in_body or self._refusal is not None,
            linger_seconds=self._limits.linger_seconds,
            write_seconds=self._limits.write_seconds,
        )
        super().connection_made(self._closer)
        self.flow = PipelineFlow(self._closer, lambda: bool(self.pipeline or self._unread))
        self._expect_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._closer is not None:
            self._closer.forget()
        self._cancel_header_timer()
        self.resume_writing()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._last or self._refusal is not None or self.transport.is_closing():
            return
        if self._unread:
            self._unread += data
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._head.refusal)
            return
        if self._unparsed_size > self._limits.header_bytes:
            # An endless header, chunk extension or trailer.
            self._refuse(refusals.HEADER_FIELDS_TOO_LARGE)
        elif self._header_timer is None and not self._in_body and (self._in_head or not self._owed):
            self._expect_head()

    def _parse(self, data: bytes) -> None:
        """Feed the parser in pieces, so that each request starts a new piece."""
        start, size = 0, len(data)
        while start < size and not self._last:
            if not self._in_body and (
                self.flow.write_paused or (self.pipeline and self._is_full())
            ):
                self._unread = data[start:]
                self.flow.pause_reading()
                return
            end = self._end_of_piece(data, start)
            piece = data[start:end]
            if not self._in_body:
                self._head.add_bytes(piece)
            self._unparsed_size += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                # Other protocols are not supported. This was the last request (see
                # on_headers_complete), and the piece ended with it.
                return
            if not self._in_head:
                self._head.check_gap()
            start = end
        if self._in_head or self._in_body:
            # The empty line may have started.
            self._tail = (self._tail + data[-3:])[-3:]

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Return the index in `data` up to which bytes from `start` may belong to this message.

        Headers and chunked bodies end with an empty line. A chunked body can contain many other
        empty lines, so after some of them the rest is one piece; a request that starts within it
        is refused.
        """
        if self._in_body:
            if not self._head.chunked:
                return start + self._head.body_left
            self._pieces = self._pieces + 1 if start else 0
            if self._pieces > _MOST_PIECES:
                return len(data)
        tail = b"" if start else self._tail
        found = (tail + data).find(_EMPTY_LINE, start)
        return len(data) if found < 0 else found + len(_EMPTY_LINE) - len(tail)

    def _is_full(self) -> bool:
        return not self._in_head and (
            len(self.pipeline) >= self._limits.waiting_requests
            or self._waiting_size > self._limits.header_bytes
        )

    def _read_on(self) -> None:
        """Resume reading if no request is waiting and the client receives its responses."""
        if self.pipeline or self.flow.write_paused or self.transport.is_closing():
            return
        self._waiting_size = 0
        unread, self._unread = self._unread, b""
        self.flow.resume_reading()
        if unread:
            self.data_received(unread)

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head.begin()
        self._unparsed_size = 0

    @override
    def on_url(self, url: bytes) -> None:
        self._head.add_size(len(url))
        if b"#" in url:
            # A request target has no fragment, and servers disagree on where to cut it off.
            raise UnacceptableHead
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._head.add_field(name, value)
        # A trailer must not be mistaken for a header (RFC 9110, section 6.5.1).
        if self._in_head:
            self._head.check_header(self.parser, name, value)
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        version, self.url = self._head.complete(self.parser, self.url)
        if version == "1.0":
            # An HTTP/1.0 client does not understand interim responses (RFC 9110, section 10.1.1).
            self.expect_100_continue = False
        super().on_headers_complete()
        self._cancel_header_timer()
        self._in_head, self._in_body = False, True
        self._unparsed_size = 0
        self._owed += 1
        if self.pipeline:
            self._waiting_size += self._head.size
        if self.parser.should_upgrade():
            # The bytes that follow may belong to the other protocol.
            self.cycle.keep_alive = False
        # A response that is sent before the body has arrived closes the connection; see
        # on_message_complete.
        self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    @override
    def on_body(self, body: bytes) -> None:
        self._unparsed_size = 0
        self._head.body_left -= len(body)
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._in_body = False
        self._unparsed_size = 0
        self._tail = b""
        self._last = not self._keep_alive
        self.cycle.keep_alive = self._keep_alive and not self._draining.is_set()
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        if self.flow.write_paused:
            # The next request starts once the client has received this response.
            self._untaken = True
            return
        self._owed -= 1
        super().on_response_complete()
        if self._in_head:
            # The next request has started, with a deadline of its own.
            self._unset_keepalive_if_required()
        if self._refusal is not None and not self._owed:
            self._send_refusal(self._refusal)
        if self.flow.read_paused:
            self._read_on()

    @override
    def shutdown(self) -> None:
        self._keep_alive = False
        super().shutdown()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(
                self._limits.write_seconds, self.transport.abort
            )

    @override
    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()
        if self._untaken:
            self._untaken = False
            self.on_response_complete()
        else:
            self._read_on()

    def _expect_head(self) -> None:
        self._header_timer = self.loop.call_later(
            self._limits.header_seconds, self._header_deadline_passed
        )

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_deadline_passed(self) -> None:
        self._header_timer = None
        if self._owed:
            # Reading pauses while a response is due, so the delay may not be the client's.
            self._expect_head()
        elif self._in_head:
            self._refuse(refusals.REQUEST_TIMEOUT)
        else:
            # A client that has sent no request expects no response.
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Stop reading, and send `refusal` after the responses to earlier requests."""
        self._refusal = refusal
        self._cancel_header_timer()
        if self._in_body and self.pipeline:
            # The invalid request is the newest one and has not started.
            self.pipeline.popleft()
            self._owed -= 1
        elif self._in_body:
            answered = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._owed -= 1
            if answered:
                self.transport.close()
        if not self._owed:
            self._send_refusal(refusal)

    def _send_refusal(self, refusal: Refusal) -> None:
        if self.transport.is_closing():
            return
        instance = uuid.uuid4().hex
        _log.info("refused %s: %s", instance, refusal.slug)
        # Without a target, the parser still has the method of the previous request.
        head = bool(self.url) and self.parser.get_method() == b"HEAD"
        # Without a target, the headers are those of the previous request too.
        sent = self.headers if self.url else []
        headers = [*self.server_state.default_headers, *cors_headers(sent, self._cors_origins)]
        self.transport.write(refusal.response(self._problem_types, instance, headers, head=head))
        self.transport.close()
