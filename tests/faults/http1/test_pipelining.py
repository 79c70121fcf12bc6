"""Limits on pipelined requests, counted in the server's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from api.server.http1.limits import ConnectionLimits
from tests.faults.http1.in_process import LARGE, Application, Connection

LIMITS = ConnectionLimits()
HOLD = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE_ANSWER = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"


def numbered(count: int) -> list[bytes]:
    return [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count)]


def run(
    scenario: Callable[[Application, Connection], Awaitable[None]], *, takes: bool = True
) -> None:
    async def converse() -> None:
        app = Application()
        connection = Connection(app, takes=takes)
        await scenario(app, connection)
        connection.end()

    asyncio.run(converse())


async def release(app: Application, connection: Connection) -> None:
    app.released.set()
    await connection.settle()


@pytest.mark.parametrize("one_packet", [True, False])
def test_sixteen_requests_wait_and_the_rest_stays_unread(*, one_packet: bool) -> None:
    requests = [HOLD, *numbered(500)]

    async def scenario(app: Application, connection: Connection) -> None:
        await connection.send(*([b"".join(requests)] if one_packet else requests))
        assert app.started == 1
        assert len(connection.protocol.pipeline) <= LIMITS.waiting_requests
        await connection.send(LAST)
        assert connection.undelivered >= len(LAST)
        await release(app, connection)
        paths = [request.path for request in app.requests]
        assert paths == ["/hold", *(f"/{number}" for number in range(500)), "/last"]
        assert connection.answers == [200] * 502

    run(scenario)


def test_waiting_requests_are_also_bounded_by_size() -> None:
    large = b"GET / HTTP/1.1\r\nHost: a\r\na: " + b"a" * 25_000 + b"\r\n\r\n"

    async def scenario(app: Application, connection: Connection) -> None:
        await connection.send(HOLD + large * 10)
        assert len(connection.protocol.pipeline) <= 2
        await release(app, connection)
        assert connection.answers == [200] * 11

    run(scenario)


def test_the_body_of_a_waiting_request_is_read_in_its_turn() -> None:
    upload = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
    pieces = [b"x" * 1000] * 100

    async def scenario(app: Application, connection: Connection) -> None:
        await connection.send(HOLD, upload, *pieces, *numbered(2))
        assert connection.undelivered > 100_000
        await release(app, connection)
        assert [len(request.body) for request in app.requests] == [0, 100_000, 0, 0]

    run(scenario)


@pytest.mark.parametrize("one_packet", [True, False])
def test_a_request_starts_after_the_previous_response_is_taken(*, one_packet: bool) -> None:
    requests = [LARGE_ANSWER] * 20

    async def scenario(app: Application, connection: Connection) -> None:
        await connection.send(*([b"".join(requests)] if one_packet else requests))
        for number in range(1, 21):
            assert app.started == number
            assert len(connection.written) < number * (len(LARGE) + 300)
            await connection.take()
        assert connection.answers == [200] * 20
        await connection.send(*numbered(3))
        assert connection.answers == [200] * 23

    run(scenario, takes=False)


def test_nothing_is_read_while_a_response_is_not_taken() -> None:
    async def scenario(app: Application, connection: Connection) -> None:
        await connection.send(LARGE_ANSWER, *numbered(50))
        assert connection.undelivered >= len(b"".join(numbered(50)[1:]))
        await connection.take()
        assert app.started == 51
        assert connection.answers == [200] * 51
        assert connection.undelivered == 0

    run(scenario, takes=False)


@pytest.mark.parametrize("cut", range(1, len(HOLD)))
def test_a_request_begun_before_a_response_is_taken_waits(cut: int) -> None:
    async def scenario(app: Application, connection: Connection) -> None:
        await connection.send(LARGE_ANSWER + HOLD[:cut], HOLD[cut:] + LAST)
        assert app.started == 1
        await connection.take()
        assert app.started == 2
        await release(app, connection)
        assert [request.path for request in app.requests] == ["/large", "/hold", "/last"]
        assert connection.answers == [200] * 3

    run(scenario, takes=False)


def test_a_client_that_leaves_with_unread_responses_leaves_nothing() -> None:
    async def scenario(app: Application, connection: Connection) -> None:
        await connection.send(LARGE_ANSWER * 5)
        connection.end()
        await connection.settle()
        assert app.started == 1
        assert not connection.protocol.server_state.tasks

    run(scenario, takes=False)
