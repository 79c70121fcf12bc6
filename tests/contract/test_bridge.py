"""Threads are bounded, and a place is given back whatever becomes of the work."""

import asyncio
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from api.contract.bridge import INLINE, Bridge, Pool
from api.contract.errors import Overloaded


@pytest.fixture
def pool() -> Iterator[Pool]:
    """One thread, and one place to wait in."""
    pool = Pool("test", threads=1, queue=1)
    yield pool
    pool.close()


def fail() -> NoReturn:
    raise ZeroDivisionError


async def until(pool: Pool, use: int) -> None:
    async with asyncio.timeout(10):
        while pool.use != use:  # noqa: ASYNC110 - a pool tells nobody of its use.
            await asyncio.sleep(0.001)


def test_work_runs_in_a_thread_of_the_pool(pool: Pool) -> None:
    ran_in = asyncio.run(pool.run(threading.current_thread))
    assert ran_in.name.startswith("test")
    assert ran_in is not threading.current_thread()


def test_inline_work_runs_where_it_is_asked_for(pool: Pool) -> None:
    bridge = Bridge({"test": pool})
    assert asyncio.run(bridge.run(INLINE, threading.current_thread)) is threading.current_thread()
    assert asyncio.run(bridge.run("test", int, "5")) == 5


def test_what_finds_all_places_taken_is_refused_at_once(pool: Pool) -> None:
    async def fill() -> None:
        go = threading.Event()
        try:
            running = [asyncio.create_task(pool.run(go.wait, 10)) for _ in range(2)]
            await until(pool, 2)
            for _ in range(3):
                with pytest.raises(Overloaded):
                    await pool.run(int)
        finally:
            go.set()
        await asyncio.gather(*running)
        assert await pool.run(int) == 0

    asyncio.run(fill())


def test_work_that_fails_gives_its_place_back(pool: Pool) -> None:
    async def fail_often() -> None:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await pool.run(fail)
        assert pool.use == 0

    asyncio.run(fail_often())


@pytest.mark.parametrize("waits", [True, False], ids=["in the queue", "in its thread"])
def test_work_that_is_cancelled_gives_its_place_back(pool: Pool, *, waits: bool) -> None:
    async def cancel() -> None:
        go = threading.Event()
        first = asyncio.create_task(pool.run(go.wait, 10))
        await until(pool, 1)
        second = asyncio.create_task(pool.run(go.wait, 10))
        await until(pool, 2)
        cancelled, kept = (second, first) if waits else (first, second)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        go.set()
        await kept
        await until(pool, 0)

    asyncio.run(cancel())


def test_a_closed_pool_refuses_and_does_not_wait() -> None:
    pool = Pool("test", threads=1, queue=1)
    pool.close()
    with pytest.raises(Overloaded, match="stopping"):
        asyncio.run(pool.run(int))
    assert pool.use == 0


def test_work_that_has_waited_too_long_is_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.contract.bridge.LONGEST_WAIT", 0.01)

    async def wait_in_line() -> None:
        go = threading.Event()
        first = asyncio.create_task(pool.run(go.wait, 10))
        second = asyncio.create_task(pool.run(threading.current_thread))
        await until(pool, 2)
        await asyncio.sleep(0.05)
        go.set()
        assert await first
        with pytest.raises(Overloaded):
            await second

    asyncio.run(wait_in_line())
    assert pool.use == 0
