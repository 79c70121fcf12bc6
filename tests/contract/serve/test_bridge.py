"""Threads are bounded, and each is released whatever the result of its work."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import NoReturn

import pytest

from api.contract.engine_errors import Overloaded
from api.contract.serve.bridge import INLINE, Bridge, Pool

KIND = "orders"


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
    ran_in = asyncio.run(pool.run(KIND, threading.current_thread))
    assert ran_in.name.startswith("test")
    assert ran_in is not threading.current_thread()


def test_inline_work_runs_on_the_calling_thread(pool: Pool) -> None:
    bridge = Bridge({"test": pool})
    assert (
        asyncio.run(bridge.run(INLINE, KIND, threading.current_thread))
        is threading.current_thread()
    )
    assert asyncio.run(bridge.run("test", KIND, int, "5")) == 5


def test_work_beyond_the_pool_is_refused_at_once(pool: Pool) -> None:
    async def fill() -> None:
        go = threading.Event()
        try:
            running = [asyncio.create_task(pool.run(KIND, go.wait, 10)) for _ in range(2)]
            await until(pool, 2)
            for _ in range(3):
                with pytest.raises(Overloaded):
                    await pool.run(KIND, int)
        finally:
            go.set()
        await asyncio.gather(*running)
        assert await pool.run(KIND, int) == 0

    asyncio.run(fill())


def test_failed_work_returns_its_place(pool: Pool) -> None:
    async def fail_often() -> None:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await pool.run(KIND, fail)
        assert pool.use == 0

    asyncio.run(fail_often())


@pytest.mark.parametrize("waits", [True, False], ids=["in the queue", "in its thread"])
def test_cancelled_work_returns_its_place(pool: Pool, *, waits: bool) -> None:
    async def cancel() -> None:
        go = threading.Event()
        first = asyncio.create_task(pool.run(KIND, go.wait, 10))
        await until(pool, 1)
        second = asyncio.create_task(pool.run(KIND, go.wait, 10))
        await until(pool, 2)
        cancelled, kept = (second, first) if waits else (first, second)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        go.set()
        await kept
        await until(pool, 0)

    asyncio.run(cancel())


def test_a_closed_pool_refuses_without_waiting() -> None:
    pool = Pool("test", threads=1, queue=1)
    pool.close()
    with pytest.raises(Overloaded, match="stopping"):
        asyncio.run(pool.run(KIND, int))
    assert pool.use == 0


def test_closing_waits_for_running_and_queued_work(pool: Pool) -> None:
    async def close() -> None:
        go, ran = threading.Event(), threading.Event()
        works = [
            asyncio.create_task(pool.run(KIND, go.wait, 10)),
            asyncio.create_task(pool.run(KIND, ran.set)),
        ]
        await until(pool, 2)
        closing = asyncio.create_task(asyncio.to_thread(pool.close))
        refusal = ""
        while "stopping" not in refusal:
            await asyncio.sleep(0.001)
            with pytest.raises(Overloaded) as refused:
                await pool.run(KIND, int)
            refusal = str(refused.value)
        assert not closing.done()
        go.set()
        await closing
        assert ran.is_set()
        await asyncio.gather(*works)

    asyncio.run(close())


def test_work_cancelled_in_the_queue_does_not_run(pool: Pool) -> None:
    async def cancel() -> None:
        go, ran = threading.Event(), threading.Event()
        first = asyncio.create_task(pool.run(KIND, go.wait, 10))
        second = asyncio.create_task(pool.run(KIND, ran.set))
        await until(pool, 2)
        second.cancel()
        await asyncio.wait([second])
        go.set()
        await first
        await until(pool, 0)
        assert not ran.is_set()

    asyncio.run(cancel())


def test_existing_threads_work_if_no_more_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        few, none = Pool("few", 2, 2), Pool("none", 1, 1)
        go = threading.Event()
        first = asyncio.create_task(few.run(KIND, go.wait, 10))
        await until(few, 1)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        second = asyncio.create_task(few.run(KIND, int))
        await until(few, 2)
        with pytest.raises(Overloaded):
            await none.run(KIND, int)
        assert none.use == 0
        go.set()
        assert (await first, await second) == (True, 0)
        few.close()
        none.close()

    asyncio.run(run())


def test_a_thread_outlives_the_loop_that_waited_for_it(pool: Pool) -> None:
    go = threading.Event()

    async def leave() -> None:
        left_behind = asyncio.create_task(pool.run(KIND, go.wait, 10))
        await until(pool, 1)
        assert not left_behind.done()

    asyncio.run(leave())
    go.set()
    assert asyncio.run(pool.run(KIND, int)) == 0


def test_an_error_without_a_waiting_future_is_raised(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(pool.run(KIND, next, iter(())))


@pytest.mark.parametrize("fails", [True, False])
def test_nothing_of_a_request_is_kept_after_its_response(pool: Pool, *, fails: bool) -> None:
    class Sent:
        def work(self) -> None:
            if fails:
                raise ZeroDivisionError

    async def send() -> "weakref.ref[Sent]":
        sent = Sent()
        with contextlib.suppress(ZeroDivisionError):
            await pool.run(KIND, sent.work)
        return weakref.ref(sent)

    gc.disable()
    try:
        kept = asyncio.run(send())
        asyncio.run(pool.run(KIND, int))
        assert kept() is None
    finally:
        gc.enable()


def test_work_that_waited_too_long_is_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_in_line() -> None:
        started, go = threading.Event(), threading.Event()

        def work() -> bool:
            started.set()
            return go.wait(10)

        first = asyncio.create_task(pool.run(KIND, work))
        await asyncio.to_thread(started.wait, 10)
        # Not before the first has its thread: it must not be refused for its own way there.
        monkeypatch.setattr("api.contract.serve.bridge.LONGEST_WAIT", 0.01)
        second = asyncio.create_task(pool.run(KIND, threading.current_thread))
        await until(pool, 2)
        await asyncio.sleep(0.05)
        go.set()
        assert await first
        with pytest.raises(Overloaded):
            await second

    asyncio.run(wait_in_line())
    assert pool.use == 0


def test_a_kind_that_fills_its_share_leaves_threads_to_others() -> None:
    async def fill(pool: Pool) -> None:
        go = threading.Event()
        try:
            stuck = [asyncio.create_task(pool.run(KIND, go.wait, 10)) for _ in range(5)]
            await until(pool, 5)
            for kind in ("products", "accounts"):
                assert await pool.run(kind, int) == 0
            # It has two of three threads, and all places in the queue.
            with pytest.raises(Overloaded):
                await pool.run(KIND, int)
        finally:
            go.set()
        assert await asyncio.gather(*stuck) == [True] * 5
        assert await pool.run(KIND, int) == 0

    pool = Pool("test", 3, 3, share=2)
    asyncio.run(fill(pool))
    pool.close()


@pytest.mark.parametrize("share", [1, None])
def test_a_kind_without_progress_is_refused(
    share: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(pool: Pool) -> None:
        go = threading.Event()
        running = [asyncio.create_task(pool.run(KIND, go.wait, 10)) for _ in range(2)]
        await until(pool, 2)
        monkeypatch.setattr("api.contract.serve.bridge.STUCK", -1.0)
        try:
            if share:
                with pytest.raises(Overloaded):
                    await pool.run(KIND, int)
                assert pool.use == 2
            else:
                running.append(asyncio.create_task(pool.run(KIND, go.wait, 10)))
                await until(pool, 3)
        finally:
            go.set()
        assert all(await asyncio.gather(*running))

    monkeypatch.setattr("api.contract.serve.bridge.STUCK", 60.0)
    pool = Pool("test", 1, 8, share=share)
    asyncio.run(fill(pool))
    pool.close()
