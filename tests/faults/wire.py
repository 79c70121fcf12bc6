"""A raw HTTP/1.1 client: it sends exactly the bytes it is given and reads what comes back.

Ordinary clients repair or refuse most hostile requests before they leave; this one does neither.
Answers are parsed by h11, which is strict, so that a malformed answer is a fault of the server.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import h11

READ_SIZE = 65_536
MAX_HEAD = 1_048_576


class MalformedAnswer(Exception):
    """What the server sent is not an HTTP/1.1 answer (RFC 9112)."""


@dataclass(frozen=True)
class Answer:
    """One final answer; header names are in lower case, values as Latin-1 text."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The only value of a header, or None; several values are joined by commas."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


@dataclass(frozen=True)
class Exchange:
    """What one connection gave: complete final answers, all bytes received, how it ended."""

    answers: tuple[Answer, ...]
    received: bytes
    closed: bool
    sent_all: bool
    seconds: float


@dataclass(frozen=True)
class Delivery:
    """How the bytes leave and how long to listen.

    `slices` are byte offsets at which the request is cut into separate sends; with `one_byte`
    every byte is a send. `pause` seconds pass between sends. `half_close` ends our direction
    after the last byte. Listening ends `linger` seconds after the first answer, when the
    server closes, or `deadline` seconds after connecting.
    """

    one_byte: bool = False
    slices: tuple[int, ...] = ()
    pause: float = 0.0
    half_close: bool = False
    linger: float = 0.0
    deadline: float = 20.0

    def pieces(self, request: bytes) -> Iterator[bytes]:
        """The request cut as asked, in order and complete."""
        if self.one_byte:
            yield from (request[i : i + 1] for i in range(len(request)))
            return
        cuts = [0, *(cut for cut in self.slices if 0 < cut < len(request)), len(request)]
        yield from (request[start:end] for start, end in pairwise(cuts))


def exchange(
    host: str, port: int, request: bytes, delivery: Delivery, *, head: bool = False
) -> Exchange:
    """Send `request` on a new connection and return what came back.

    Sending and reading overlap, because a server may answer and close long before a huge request
    has left. `head` says that answers have no body (RFC 9110, 9.3.2).

    Raises MalformedAnswer, and OSError when the connection cannot be made.
    """
    started = time.monotonic()
    with socket.create_connection((host, port), timeout=delivery.deadline) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setblocking(False)
        received, closed, sent_all = _converse(peer, request, delivery, started, head=head)
    answers = tuple(parse(received, closed=closed, head=head))
    return Exchange(answers, received, closed, sent_all, time.monotonic() - started)


def _converse(
    peer: socket.socket, request: bytes, delivery: Delivery, started: float, *, head: bool
) -> tuple[bytes, bool, bool]:
    received = bytearray()
    pieces = delivery.pieces(request)
    pending = memoryview(next(pieces, b""))
    sending, not_before, until = True, 0.0, started + delivery.deadline
    answered = False
    while (now := time.monotonic()) < until:
        want_write = sending and now >= not_before
        wait = max(0.0, min(until, not_before if now < not_before else until) - now)
        readable, writable, _ = select.select([peer], [peer] if want_write else [], [], wait)
        if readable:
            try:
                data = peer.recv(READ_SIZE)
            except ConnectionError:
                return bytes(received), True, not sending
            if not data:
                return bytes(received), True, not sending
            received += data
            if not answered and parse(bytes(received), closed=False, head=head):
                answered = True
                until = min(until, time.monotonic() + delivery.linger)
        elif writable:
            try:
                pending = pending[peer.send(pending) :]
            except ConnectionError:
                # The server has hung up; what it said before may still be waiting to be read.
                sending = False
                continue
            if not pending:
                following = next(pieces, None)
                if following is None:
                    sending = False
                    if delivery.half_close:
                        peer.shutdown(socket.SHUT_WR)
                else:
                    pending = memoryview(following)
                    not_before = time.monotonic() + delivery.pause
    return bytes(received), False, not sending


def parse(received: bytes, *, closed: bool, head: bool) -> list[Answer]:
    """The complete final answers in `received`; an incomplete last one counts only as malformed
    when the connection is `closed`."""
    answers: list[Answer] = []
    rest = received
    while rest:
        parsed = _parse_one(rest, closed=closed, head=head)
        if parsed is None:
            break
        answer, rest = parsed
        answers.append(answer)
    return answers


def _parse_one(received: bytes, *, closed: bool, head: bool) -> tuple[Answer, bytes] | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    connection.send(h11.Request(method="HEAD" if head else "GET", target="/", headers=[("Host", "")]))
    connection.send(h11.EndOfMessage())
    final: h11.Response | None = None
    body = bytearray()
    try:
        connection.receive_data(received)
        if closed:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Response):
                final = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError as error:
        raise MalformedAnswer(f"{error}: {received[:200]!r}") from error
    if final is None:
        return None
    headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in final.headers)
    answer = Answer(final.status_code, final.reason.decode("latin-1"), headers, bytes(body))
    return answer, connection.trailing_data[0]
