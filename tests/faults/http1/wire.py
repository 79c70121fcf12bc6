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
    """What one connection gave: complete final answers, all bytes received, how and when it ended.

    `rest` are bytes behind the last complete answer, of which there should be none; `seconds` are
    those until the first answer, or until the end where there was none.
    """

    answers: tuple[Answer, ...]
    received: bytes
    rest: bytes
    closed: bool
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
    with socket.create_connection((host, port), timeout=delivery.deadline) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.settimeout(0)
        return _Conversation(peer, request, delivery, head=head).hold()


class _Conversation:
    """One request on its way out while the answers come in."""

    def __init__(
        self, peer: socket.socket, request: bytes, delivery: Delivery, *, head: bool
    ) -> None:
        self._peer = peer
        self._delivery = delivery
        self._head = head
        self._pieces = delivery.pieces(request)
        self._piece: memoryview | None = memoryview(next(self._pieces, b""))
        self._received = bytearray()
        self._closed = False
        self._send_after = 0.0
        self._started = time.monotonic()
        self._until = self._started + delivery.deadline
        self._answered: float | None = None

    def hold(self) -> Exchange:
        """Send and listen until the server closes or the time is up."""
        while not self._closed and (now := time.monotonic()) < self._until:
            waiting = self._piece is not None and now < self._send_after
            writers = [self._peer] if self._piece is not None and not waiting else []
            pause = (self._send_after if waiting else self._until) - now
            readable, writable, _ = select.select([self._peer], writers, [], pause)
            if readable:
                self._read()
            elif writable:
                self._write()
        received = bytes(self._received)
        answers, rest = parse(received, closed=self._closed, head=self._head)
        ended = self._answered or time.monotonic()
        return Exchange(tuple(answers), received, rest, self._closed, ended - self._started)

    def _read(self) -> None:
        try:
            data = self._peer.recv(READ_SIZE)
        except ConnectionError:
            data = b""
        if not data:
            self._closed = True
            return
        self._received += data
        if self._answered is not None:
            return
        answers, _ = parse(bytes(self._received), closed=False, head=self._head)
        if answers:
            self._answered = time.monotonic()
            self._until = min(self._until, self._answered + self._delivery.linger)

    def _write(self) -> None:
        assert self._piece is not None
        try:
            self._piece = self._piece[self._peer.send(self._piece) :]
        except ConnectionError:
            # The server has hung up; what it said before may still be waiting to be read.
            self._piece = None
            return
        if self._piece:
            return
        following = next(self._pieces, None)
        self._piece = None if following is None else memoryview(following)
        self._send_after = time.monotonic() + self._delivery.pause
        if following is None and self._delivery.half_close:
            self._peer.shutdown(socket.SHUT_WR)


def parse(received: bytes, *, closed: bool, head: bool) -> tuple[list[Answer], bytes]:
    """Return the complete final answers in `received`, and the bytes after them.

    Raises MalformedAnswer, also for an answer that was cut off by the end of the connection.
    """
    answers: list[Answer] = []
    rest = received
    while rest:
        parsed = _parse_one(rest, closed=closed, head=head)
        if parsed is None:
            break
        answer, rest = parsed
        answers.append(answer)
    return answers, rest


def _parse_one(received: bytes, *, closed: bool, head: bool) -> tuple[Answer, bytes] | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    method = "HEAD" if head else "GET"
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "")]))
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
    fields = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in final.headers)
    answer = Answer(final.status_code, final.reason.decode("latin-1"), fields, bytes(body))
    return answer, connection.trailing_data[0]
