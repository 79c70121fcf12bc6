"""Where requests begin and end: the server against h11, over thousands of mutated streams.

The server must find no request that h11 does not find, nor another body. It may refuse more: then
it closes the connection (RFC 9112 section 11.2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from unittest.mock import Mock, patch

import h11
import httptools
import pytest
import uvloop
from typing_extensions import override
from uvicorn.server import ServerState

from api.server.http1.protocol import HttpProtocol
from tests.faults.http1.in_process import Application, Connection, Request, final_statuses
from tests.faults.http1.streams import BASES, CANARY, split, streams

RANDOM_STREAMS = 3000
SOCKET_STREAMS = 250


def read_by_h11(stream: bytes) -> list[Request]:
    """The requests that h11 reads. It knows no empty lines before a request, which are ignored."""
    requests: list[Request] = []
    rest = stream
    while rest:
        while rest.startswith(b"\r\n"):
            rest = rest[2:]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
        connection.receive_data(rest)
        try:
            request = _read_one(connection)
        except h11.RemoteProtocolError:
            break
        if request is None:
            break
        requests.append(request)
        # A status that switches no protocol, whatever was asked for.
        connection.send(h11.Response(status_code=400, headers=[("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            break
        rest = connection.trailing_data[0]
    return requests


def _read_one(connection: h11.Connection) -> Request | None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif head is not None and isinstance(event, h11.EndOfMessage):
            path, _, query = _origin_form(head.target.decode()).partition("?")
            return Request(head.method.decode(), path, query, body)
        else:
            return None


def _origin_form(target: str) -> str:
    scheme, absolute, rest = target.partition("://")
    if not absolute or "/" in scheme:
        return target
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    return "/" + rest.removeprefix(authority).removeprefix("/")


def faults(
    pieces: Sequence[bytes], requests: list[Request], answers: list[int], *, closed: bool
) -> Iterator[str]:
    """What is wrong with how the server read and answered a stream."""
    expected = read_by_h11(b"".join(pieces))
    if requests != expected[: len(requests)]:
        yield f"the server read {requests}, h11 {expected}: {pieces}"
    if len(requests) < len(expected) and not closed:
        yield f"the server waits after {requests}, h11 {expected}: {pieces}"
    served = answers.count(200)
    if served != len(requests) or answers[served:] not in ([], [400]):
        yield f"{len(requests)} requests were answered with {answers}: {pieces}"


async def read_in_process(pieces: Sequence[bytes]) -> list[str]:
    app = Application()
    connection = Connection(app)
    await connection.send(*pieces)
    closed = connection.is_closing()
    connection.end()
    return list(faults(pieces, app.requests, connection.answers, closed=closed))


class Client(asyncio.Protocol):
    """Keeps what it receives, also if the connection is reset."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = asyncio.Event()

    @override
    def data_received(self, data: bytes) -> None:
        self.received += data

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


async def read_by_socket(pieces: Sequence[bytes]) -> list[str]:
    app = Application()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: HttpProtocol(app.config, ServerState(), {}), "127.0.0.1", 0
    )
    async with server:
        address = server.sockets[0].getsockname()
        transport, client = await loop.create_connection(Client, *address)
        for piece in pieces:
            if not transport.is_closing():
                transport.write(piece)
            await asyncio.sleep(0.02)
        with suppress(TimeoutError):
            await asyncio.wait_for(client.closed.wait(), 0.3)
        closed = client.closed.is_set()
        transport.abort()
        await client.closed.wait()
    return list(faults(pieces, app.requests, final_statuses(client.received), closed=closed))


def test_the_server_reads_no_request_that_h11_does_not_read() -> None:
    async def read_all() -> list[str]:
        return [
            fault
            for stream in streams(RANDOM_STREAMS)
            for pieces in ([stream], split(stream))
            for fault in await read_in_process(pieces)
        ]

    found = asyncio.run(read_all())
    assert not found, "\n".join([f"{len(found)} faults", *found[:20]])


def test_the_server_reads_none_of_them_from_a_socket_either() -> None:
    async def read_some() -> list[str]:
        some = list(streams(RANDOM_STREAMS))[:: RANDOM_STREAMS // SOCKET_STREAMS]
        found = []
        for batch in (some[at : at + 50] for at in range(0, len(some), 50)):
            found += await asyncio.gather(*(read_by_socket(split(stream)) for stream in batch))
        return list(chain.from_iterable(found))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(read_some())
    assert not found, "\n".join([f"{len(found)} faults", *found[:20]])


GOOD = [base for base in BASES if b"pgrade" not in base and not base.startswith(b"CONNECT")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_valid_requests_are_served_however_they_are_split(size: int) -> None:
    async def read(stream: bytes) -> tuple[list[Request], list[int]]:
        app = Application()
        connection = Connection(app)
        await connection.send(*(stream[at : at + size] for at in range(0, len(stream), size)))
        connection.end()
        return app.requests, connection.answers

    lasting = [base for base in GOOD if b"HTTP/1.0" not in base and b"close" not in base]
    streams_of_good = [b"".join([*lasting, b"\r\n", CANARY]), *(base + CANARY for base in GOOD)]
    for stream in streams_of_good:
        expected = read_by_h11(stream)
        assert asyncio.run(read(stream)) == (expected, [200] * len(expected))


def test_a_chunked_body_of_empty_lines_is_read_in_few_pieces() -> None:
    empty_lines = b"\r\n" * 50_000
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    upload = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(empty_lines), empty_lines)

    async def read(*pieces: bytes) -> tuple[list[int], list[int]]:
        app = Application()
        connection = Connection(app)
        with patch.object(
            connection.protocol, "on_body", wraps=connection.protocol.on_body
        ) as on_body:
            connection.protocol.parser = httptools.HttpRequestParser(connection.protocol)
            await connection.send(*pieces)
        connection.end()
        assert on_body.call_count < 200
        return [len(request.body) for request in app.requests], connection.answers

    size = len(empty_lines)
    assert asyncio.run(read(upload, CANARY)) == ([size, 0], [200, 200])
    # What follows in the same packet could be served as well, but nothing marks its beginning.
    assert asyncio.run(read(upload + CANARY)) == ([size], [200, 400])


@pytest.mark.parametrize("size", [1, 2, 3, 1_000_000])
def test_few_empty_lines_are_accepted_before_a_request(size: int) -> None:
    async def read(stream: bytes) -> tuple[list[int], int]:
        connection = Connection(Application())
        parser = Mock(wraps=httptools.HttpRequestParser(connection.protocol))
        connection.protocol.parser = parser
        await connection.send(*(stream[at : at + size] for at in range(0, len(stream), size)))
        connection.end()
        return connection.answers, parser.feed_data.call_count

    lines = b"\r\n" * 16
    assert asyncio.run(read(lines + CANARY + lines + CANARY))[0] == [200, 200]
    for stream in (b"\r\n" * 50_000, CANARY + b"\r\n" * 50_000):
        answers, pieces = asyncio.run(read(stream))
        assert answers[-1] == 400
        assert pieces < 100


@pytest.mark.parametrize("size", [1, 10_000])
def test_nothing_is_read_after_an_upgrade(size: int) -> None:
    async def read(stream: bytes) -> tuple[list[str], list[int], bool]:
        app = Application()
        connection = Connection(app)
        await connection.send(*(stream[at : at + size] for at in range(0, len(stream), size)))
        closing = connection.is_closing()
        connection.end()
        return [request.path for request in app.requests], connection.answers, closing

    upgrade = b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    for rest in (b"", CANARY, b"\x81\x00", CANARY * 50):
        assert asyncio.run(read(upgrade + rest)) == (["/upgrade"], [200], True)
