"""HTTP/1.1 on one connection: uvicorn's protocol with deadlines, caps and problem documents.

uvicorn waits for ever for a request's headers, keeps any number of them, and answers malformed
requests in text/plain. The subclass here gives each of those a bound and answers
application/problem+json (RFC 9457). The deadline for bodies is not here but where they are read.
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

from api.http1 import refusals
from api.http1.limits import ProtocolConfig
from api.http1.refusals import Refusal
from api.http1.transport import ClosingTransport, Timer

_log = logging.getLogger(__name__)

_VERSIONS = ("1.0", "1.1")


class _Refused(Exception):
    """Ends the parsing of a request that is well-formed and not accepted."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. Every byte that a client gets is the application's or a refusal's."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn makes the protocol with the configuration that its server was given.
        ours = cast("ProtocolConfig", config)
        self._limits = ours.limits
        self._public_url = ours.public_url
        self._draining = ours.draining
        self._closer: ClosingTransport | None = None
        self._refusal: Refusal | None = None
        self._reason = refusals.MALFORMED_REQUEST
        self._header_timer: Timer | None = None
        self._write_timer: Timer | None = None
        # Answers that the application still owes: one runs, the others are pipelined.
        self._owed = 0
        # Where the newest request stands: in its headers, in its body, or in neither.
        self._in_head = False
        self._in_body = False
        self._keep_alive = False
        # Sizes: of this request's parsed headers, and of what was read since the parser got on.
        self._head_size = 0
        self._unparsed_size = 0
        self._hosts = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # As uvicorn has it.
        self._closer = ClosingTransport(
            transport,
            expects_more=lambda: self._in_body or self._refusal is not None,
            linger_seconds=self._limits.linger_seconds,
            write_seconds=self._limits.write_seconds,
        )
        super().connection_made(self._closer)
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
        if self._refusal is not None or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._unparsed_size += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._reason)
            return
        if self._unparsed_size > self._limits.header_bytes:
            # A header, a chunk extension or a trailer that does not end.
            self._refuse(refusals.HEADER_FIELDS_TOO_LARGE)
        elif self._header_timer is None and not self._in_body and (self._in_head or not self._owed):
            self._expect_head()

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # No other protocol is spoken here, so what follows is the next request in
                # HTTP/1.1 (RFC 9110 section 7.8).
                data = data[upgrade.args[0] :]
            else:
                return

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._reason = refusals.MALFORMED_REQUEST
        self._unparsed_size = self._head_size = self._hosts = 0

    @override
    def on_url(self, url: bytes) -> None:
        self._measure(len(url))
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._measure(len(name) + len(value) + len(": \r\n"))
        if not self._in_head:
            # A trailer, which must not be taken for a header (RFC 9110 section 6.5.1).
            return
        lowered = name.lower()
        if lowered == b"host":
            self._hosts += 1
        elif lowered == b"transfer-encoding" and (
            value.lower() != b"chunked" or self.parser.get_http_version() == "1.0"
        ):
            # A coding beside chunked would reach the application undecoded, and in HTTP/1.0 the
            # header makes the end of the body a matter of opinion (RFC 9112 section 6.1).
            raise _Refused
        super().on_header(name, value)

    def _measure(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._limits.header_bytes:
            self._reason = refusals.HEADER_FIELDS_TOO_LARGE
            raise _Refused

    @override
    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        # A request in HTTP/1.1 has exactly one Host (RFC 9112 section 3.2).
        if version not in _VERSIONS or self._hosts > 1 or (version == "1.1" and not self._hosts):
            raise _Refused
        super().on_headers_complete()
        self._cancel_header_timer()
        self._in_head, self._in_body = False, True
        self._unparsed_size = 0
        self._owed += 1
        # An answer that overtakes the body ends the connection; see on_message_complete.
        self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    @override
    def on_body(self, body: bytes) -> None:
        self._unparsed_size = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._in_body = False
        self._unparsed_size = 0
        self.cycle.keep_alive = self._keep_alive and not self._draining.is_set()
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        self._owed -= 1
        super().on_response_complete()
        if self._in_head:
            # The next request has begun, and its own deadline runs.
            self._unset_keepalive_if_required()
        if self._refusal is not None and not self._owed:
            self._send_refusal(self._refusal)

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
            # Reading pauses while an answer is owed, so the client may not be the slow one.
            self._expect_head()
        elif self._in_head:
            self._refuse(refusals.REQUEST_TIMEOUT)
        else:
            # Nobody who has asked nothing waits for an answer.
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Read no more, and answer with `refusal` once the requests before it are answered."""
        self._refusal = refusal
        self._cancel_header_timer()
        if self._in_body and self.pipeline:
            # The broken request is the newest and has not been started.
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
        _log.info("refused %s: %s", instance, refusal.kind.slug)
        head = self.parser.get_method() == b"HEAD"
        headers = self.server_state.default_headers
        self.transport.write(refusal.response(self._public_url, instance, headers, head=head))
        self.transport.close()
