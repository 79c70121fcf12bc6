"""Thread pools, and the single hop from the event loop to Flask and back.

A request takes a thread once it has arrived in full, and releases it before the response is sent,
so that a slow client uses memory but never a thread. Pools are bounded: if all threads are busy
and the queue is full, a request is refused at once, instead of waiting until its client has given
up.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar, cast

from api.contract.engine_errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_WAIT = 5.0
"""Maximum seconds that a request waits for a thread."""

INLINE = "inline"
"""The pool of operations that never block, which run on the event loop."""


class Pool:
    """Threads with a bounded queue.

    Results go straight to the event loop. Futures of an executor, which any thread may wait for,
    would cost more than everything else on the way to a thread and back.
    """

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self._name = name
        self.threads = threads
        self._places = threads + queue
        self._use = 0
        self._threads: list[threading.Thread] = []
        self._tasks: SimpleQueue[_Task[Any] | None] = SimpleQueue()
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def use(self) -> int:
        """Number of requests that have a thread or are waiting for one."""
        return self._use

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread.

        Raises:
            Overloaded: all threads are busy and the queue is full, or the pool is closed.
        """
        task = _Task(partial(work, *args, **kwargs), asyncio.get_running_loop())
        with self._lock:
            if self._is_closed:
                raise Overloaded("The service is stopping.")
            if self._use >= self._places:
                raise Overloaded
            if self._use >= len(self._threads) < self.threads:
                self._start_thread()
            if not self._threads:
                raise Overloaded
            self._use += 1
            self._tasks.put(task)
        await task.done
        return task.result()

    def _start_thread(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        # A daemon thread does not keep the process alive if the pool is never closed.
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        # If the system cannot start another thread, the existing ones do the work.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._threads.append(thread)

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.do()
            # A cancelled request keeps its place until its work is done.
            with self._lock:
                self._use -= 1
            task.tell()
            # An idle thread must not keep the last request in memory.
            del task

    def close(self) -> None:
        """Refuse new work, and wait until all queued work is done."""
        with self._lock:
            self._is_closed = True
            for _ in self._threads:
                self._tasks.put(None)
        for thread in self._threads:
            thread.join()


class _Task(Generic[T]):
    """Work that a thread does for a coroutine, which awaits `done`."""

    __slots__ = ("_error", "_loop", "_queued", "_value", "_work", "done")

    def __init__(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._queued = time.monotonic()
        self._value: T | None = None
        self._error: BaseException | None = None
        self.done: asyncio.Future[None] = loop.create_future()

    def do(self) -> None:
        """Run the work, unless it was cancelled or queued longer than `LONGEST_WAIT`."""
        if self.done.cancelled():
            return
        if time.monotonic() - self._queued > LONGEST_WAIT:
            self._error = Overloaded()
            return
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for.
            self._error = error

    def tell(self) -> None:
        """Wake the waiting coroutine, if its event loop is still running."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def result(self) -> T:
        """Return the result of the work, or raise its error."""
        error, self._error = self._error, None
        if error is None:
            return cast("T", self._value)
        try:
            raise error
        finally:
            # The error refers to this frame; a reference back would keep both in memory.
            del error


class Bridge:
    """Runs work in the pool of its operation."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools

    @property
    def pools(self) -> tuple[str, ...]:
        """The names of the pools."""
        return tuple(self._pools)

    async def run(self, pool: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work in the named pool, or directly in the pool `inline`."""
        if pool == INLINE:
            return work(*args, **kwargs)
        return await self._pools[pool].run(work, *args, **kwargs)

    def close(self) -> None:
        """Close every pool."""
        for pool in self._pools.values():
            pool.close()
