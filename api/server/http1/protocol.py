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
import re
import uuid
from collections.abc import Callable
from typing import Any, cast

import httptools
import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.server.http1 import refusals
from api.server.http1.limits import ProtocolConfig
from api.server.http1.refusals import Refusal
from api.server.http1.transport import ClosingTransport, Timer

_log = logging.getLogger(__name__)

_VERSIONS = {b"0\r\n": "1.0", b"1\r\n": "1.1"}
"""HTTP versions by the text after `HTTP/1.` in the request line."""
_EMPTY_LINE = b"\r\n\r\n"
_MOST_PIECES = 100
"""Maximum number of pieces of a chunked body in one read."""
_LONGEST_GAP = 32
"""Maximum bytes of empty lines before a request. RFC 9112, section 2.2, asks for one at least."""
# RFC 3986 section 3.2.2, with an optional port.
_HOST = re.compile(
    rb"(?:\[[\w.:~!$&'()*+,;=-]+\]|[\w.~%!$&'()*+,;=-]*)(?::[0-9]*)?[ \t]*", re.ASCII
)

# The parts of an absolute request target, whose path may be empty (RFC 9112, section 3.2.2).
_ABSOLUTE = re.compile(rb"(https?://[^/?]+)/?(.*)", re.IGNORECASE | re.DOTALL)


class _Refused(Exception):
    """Stops parsing a request that is well-formed but not acceptable."""


class _PipelineFlow(FlowControl):
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
        self._reason = refusals.MALFORMED_REQUEST
        self._header_timer: Timer | None = None
        self._write_timer: Timer | None = None
        # Number of responses still to be sent: one request is running, the others are pipelined.
        self._owed = 0
        # State of the newest request: reading its headers, its body, or neither.
        self._in_head = False
        self._in_body = False
        self._keep_alive = False
        # Bytes and number of the request's parsed headers, and bytes read since the parser last
        # made progress.
        self._head_size = 0
        self._fields = 0
        self._unparsed_size = 0
        self._hosts = 0
        self._valid_host = b""
        # Framing of the request's body: bytes left of its Content-Length, or chunked.
        self._body_left = 0
        self._chunked = False
        self._pieces = 0
        # The bytes of the request's head so far, and the last bytes read before the next ones.
        self._head = b""
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
        self.flow = _PipelineFlow(self._closer, lambda: bool(self.pipeline or self._unread))
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
            self._refuse(self._reason)
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
                self._head += piece
            self._unparsed_size += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                # Other protocols are not supported. This was the last request (see
                # on_headers_complete), and the piece ended with it.
                return
            if not self._in_head and len(self._head) > _LONGEST_GAP:
                # Each empty line is a piece of its own, so their number must be bounded here.
                raise httptools.HttpParserError
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
            if not self._chunked:
                return start + self._body_left
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
        self._reason = refusals.MALFORMED_REQUEST
        self._unparsed_size = self._head_size = self._fields = self._hosts = self._body_left = 0
        self._chunked = False

    @override
    def on_url(self, url: bytes) -> None:
        self._measure(len(url))
        if b"#" in url:
            # A request target has no fragment, and servers disagree on where to cut it off.
            raise _Refused
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._measure(len(name) + len(value) + len(": \r\n"))
        if not self._in_head:
            # A trailer must not be mistaken for a header (RFC 9110, section 6.5.1).
            return
        lowered = name.lower()
        if lowered == b"host":
            self._hosts += 1
            if value != self._valid_host:
                if not _HOST.fullmatch(value):
                    raise _Refused
                self._valid_host = value
        elif lowered == b"content-length":
            self._body_left = int(value)
        elif lowered == b"transfer-encoding":
            if value.lower() != b"chunked" or self.parser.get_http_version() == "1.0":
                # Any coding other than chunked would reach the application undecoded. In HTTP/1.0
                # the header makes the end of the body ambiguous (RFC 9112, section 6.1).
                raise _Refused
            self._chunked = True
        super().on_header(name, value)

    def _measure(self, size: int) -> None:
        self._head_size += size
        limits = self._limits
        if self._head_size > limits.header_bytes or self._fields > limits.header_fields:
            self._reason = refusals.HEADER_FIELDS_TOO_LARGE
            raise _Refused

    @override
    def on_headers_complete(self) -> None:
        version = self._read_version()
        # An HTTP/1.1 request has exactly one Host header (RFC 9112, section 3.2).
        if self._hosts > 1 or (version == "1.1" and not self._hosts):
            raise _Refused
        upgrade = self.parser.should_upgrade()
        if upgrade and (self._chunked or self._body_left or self.parser.get_method() == b"CONNECT"):
            # The parser reports no body here, so a body would be parsed as the next request.
            raise _Refused
        if version == "1.0":
            # An HTTP/1.0 client does not understand interim responses (RFC 9110, section 10.1.1).
            self.expect_100_continue = False
        self._complete_target()
        super().on_headers_complete()
        self._cancel_header_timer()
        self._in_head, self._in_body = False, True
        self._head = b""
        self._unparsed_size = 0
        self._owed += 1
        if self.pipeline:
            self._waiting_size += self._head_size
        if upgrade:
            # The bytes that follow may belong to the other protocol.
            self.cycle.keep_alive = False
        # A response that is sent before the body has arrived closes the connection; see
        # on_message_complete.
        self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    def _complete_target(self) -> None:
        """Give an absolute target without a path the path `/` (RFC 9112, section 3.2).

        Raises:
            _Refused: the target is neither a path nor an absolute URL, nor `*` for OPTIONS.
        """
        if self.url.startswith(b"/"):
            return
        absolute = _ABSOLUTE.fullmatch(self.url)
        if absolute is not None:
            self.url = b"/".join(absolute.groups())
        elif self.url != b"*" or self.parser.get_method() != b"OPTIONS":
            raise _Refused

    def _read_version(self) -> str:
        """Return the HTTP version of a request line with single spaces, after empty lines only.

        The parser also accepts more spaces, a carriage return before the line, and RTSP.

        Raises:
            _Refused: the request line differs, or the version is neither 1.0 nor 1.1.
        """
        start = b" ".join((self.parser.get_method(), self.url, b"HTTP/1."))
        noise = b""
        if not self._head.startswith(start):
            noise = self._head.partition(start)[0]
        end = len(noise) + len(start)
        version = _VERSIONS.get(self._head[end : end + 3])
        if version is None or noise.replace(b"\r\n", b""):
            raise _Refused
        return version

    @override
    def on_body(self, body: bytes) -> None:
        self._unparsed_size = 0
        self._body_left -= len(body)
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
        headers = [*self.server_state.default_headers, *self._cors_headers()]
        self.transport.write(refusal.response(self._problem_types, instance, headers, head=head))
        self.transport.close()

    def _cors_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a script of an allowed origin read a refusal."""
        if not self._cors_origins:
            return []
        # Without a target, the headers are still those of the previous request.
        sent = [value for name, value in self.headers if name == b"origin"] if self.url else []
        allowed = [
            (b"access-control-allow-origin", each) for each in sent if each in self._cors_origins
        ]
        return [*allowed[:1], (b"vary", b"Origin")]
