"""From the event loop to Flask and back in one thread hop.

A thread is taken when the whole request is there and given back before the answer is written, so
that a slow client holds memory and never a thread. The pools are bounded: what finds every thread
busy and the queue full is refused at once instead of waiting for an answer nobody awaits any more.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from api.contract.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_WAIT = 5.0
"""Seconds that a request may wait for a thread."""

INLINE = "inline"
"""The pool of operations that never block: they run on the event loop itself."""


class Pool:
    """Threads with a bounded queue."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._places = threads + queue
        self._use = 0

    @property
    def use(self) -> int:
        """How many requests have a thread or wait for one."""
        return self._use

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread.

        Raises:
            Overloaded: all threads are busy and the queue is full.
        """
        with self._lock:
            if self._use >= self._places:
                raise Overloaded
            self._use += 1
        try:
            queued = time.monotonic()
            future = self._executor.submit(_in_time(queued, work), *args, **kwargs)
        except RuntimeError:
            self._give_back()
            raise Overloaded("The service is stopping.") from None
        # A request that is cancelled occupies its thread all the same until the work is done.
        future.add_done_callback(self._give_back)
        return await asyncio.wrap_future(future)

    def _give_back(self, _done: Future[T] | None = None) -> None:
        with self._lock:
            self._use -= 1

    def close(self) -> None:
        """Wait for what runs, refuse what comes."""
        self._executor.shutdown(wait=True)


def _in_time(queued: float, work: Callable[P, T]) -> Callable[P, T]:
    """Refuse work that has waited for a thread longer than anybody waits for its answer."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if time.monotonic() - queued > LONGEST_WAIT:
            raise Overloaded
        return work(*args, **kwargs)

    return run


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
