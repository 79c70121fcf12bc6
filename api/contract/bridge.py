"""From the event loop to Flask and back in one thread hop.

A thread is taken when the whole request is there and given back before the answer is written, so
that a slow client holds memory and never a thread. The pools are bounded: what finds every thread
busy and the queue full is refused at once instead of waiting for an answer nobody awaits any more.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar, cast

from api.contract.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_WAIT = 5.0
"""Seconds that a request may wait for a thread."""

INLINE = "inline"
"""The pool of operations that never block: they run on the event loop itself."""


class Pool:
    """Threads with a bounded queue.

    The threads answer to the event loop alone. An executor's futures, which any thread may wait
    for, would cost more than the rest of the way to a thread and back.
    """

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self._name = name
        self._most_threads = threads
        self._places = threads + queue
        self._use = 0
        self._threads: list[threading.Thread] = []
        self._tasks: SimpleQueue[_Task[Any] | None] = SimpleQueue()
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def use(self) -> int:
        """How many requests have a thread or wait for one."""
        return self._use

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread.

        Raises:
            Overloaded: all threads are busy and the queue is full.
        """
        task = _Task(partial(work, *args, **kwargs), asyncio.get_running_loop())
        with self._lock:
            if self._is_closed:
                raise Overloaded("The service is stopping.")
            if self._use >= self._places:
                raise Overloaded
            if self._use >= len(self._threads) < self._most_threads:
                self._start_thread()
            if not self._threads:
                raise Overloaded
            self._use += 1
            self._tasks.put(task)
        await task.done
        return task.result()

    def _start_thread(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        # The end of the process waits for `close` and for no thread that was not closed.
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        # Where the system has no thread to give, those that there are do the work.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._threads.append(thread)

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.do()
            # A request that is cancelled has its place all the same until the work is done.
            with self._lock:
                self._use -= 1
            task.tell()
            # Nothing of a request is kept until the next one comes.
            del task

    def close(self) -> None:
        """Wait for what runs, refuse what comes."""
        with self._lock:
            self._is_closed = True
            for _ in self._threads:
                self._tasks.put(None)
        for thread in self._threads:
            thread.join()


class _Task(Generic[T]):
    """Work that a thread does for a coroutine, which waits until it is `done`."""

    __slots__ = ("_error", "_loop", "_queued", "_value", "_work", "done")

    def __init__(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._queued = time.monotonic()
        self._value: T | None = None
        self._error: BaseException | None = None
        self.done: asyncio.Future[None] = loop.create_future()

    def do(self) -> None:
        """Do the work, unless it has waited longer than anybody waits for its answer."""
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
        """Wake who waits. A loop that has ended has nobody left."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        error, self._error = self._error, None
        if error is None:
            return cast("T", self._value)
        try:
            raise error
        finally:
            # The error knows this frame: if the frame knew the error neither would be freed.
            del error


class Bridge:
    """Runs work where its operation's pool says."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools

    async def run(self, pool: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work in the named pool, or here and now when it never blocks."""
        if pool == INLINE:
            return work(*args, **kwargs)
        return await self._pools[pool].run(work, *args, **kwargs)

    def close(self) -> None:
        """Close every pool."""
        for pool in self._pools.values():
            pool.close()
