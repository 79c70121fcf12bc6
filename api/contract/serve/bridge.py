"""Thread pools, and the single hop from the event loop to Flask and back.

A request takes a thread once it has arrived in full, and releases it before the response is sent,
so that a slow client uses memory but never a thread. Pools are bounded: if all threads are busy
and the queue is full, a request is refused at once, instead of waiting until its client has given
up.

One kind of work gets only a share of a pool, so that a kind that is stuck, such as on a locked
table, leaves threads to the others. Further work of a stuck kind is refused at once.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar, cast

from api.contract.engine_errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_WAIT = 5.0
"""Maximum seconds that a request waits for a thread."""

STUCK = 1.0
"""Seconds without progress after which a kind of work that has its whole share is refused."""

INLINE = "inline"
"""The pool of operations that never block, which run on the event loop."""


class Pool:
    """Threads with a bounded queue. Each kind of work can have up to `share` of the threads.

    An eighth of the queue is left to other kinds. Without `share`, a kind can have all threads, and
    is never refused because it makes no progress.

    Results go straight to the event loop. Futures of an executor, which any thread may wait for,
    would cost more than everything else on the way to a thread and back.
    """

    def __init__(self, name: str, threads: int, queue: int, *, share: int | None = None) -> None:
        self._name = name
        self.threads = threads
        self._places = threads + queue
        self._share = share or threads
        self._places_of_kind = self._share + queue - queue // 8
        self._can_be_stuck = share is not None
        self._use = 0
        self._use_of_kind: Counter[str] = Counter()
        self._progress: dict[str, float] = {}
        self._waiting: defaultdict[str, deque[_Task[Any]]] = defaultdict(deque)
        self._threads: list[threading.Thread] = []
        self._tasks: SimpleQueue[_Task[Any] | None] = SimpleQueue()
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def use(self) -> int:
        """Number of requests that have a thread or are waiting for one."""
        return self._use

    async def run(self, kind: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work of a kind in a thread.

        Raises:
            Overloaded: all threads are busy and the queue is full, also those of the kind; or the
                kind is stuck; or the pool is closed.
        """
        task = _Task(kind, partial(work, *args, **kwargs), asyncio.get_running_loop())
        with self._lock:
            if self._is_closed:
                raise Overloaded("The service is stopping.")
            use = self._use_of_kind[kind]
            if self._use >= self._places or use >= self._places_of_kind:
                raise Overloaded
            if use < self._share:
                self._progress[kind] = task.queued
            elif self._can_be_stuck and task.queued - self._progress[kind] > STUCK:
                raise Overloaded
            if self._use >= len(self._threads) < self.threads:
                self._start_thread()
            if not self._threads:
                raise Overloaded
            self._use += 1
            self._use_of_kind[kind] += 1
            if use < self._share:
                self._tasks.put(task)
            else:
                self._waiting[kind].append(task)
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
                self._finish(task.kind)
            task.tell()
            # An idle thread must not keep the last request in memory.
            del task

    def _finish(self, kind: str) -> None:
        self._use -= 1
        self._use_of_kind[kind] -= 1
        self._progress[kind] = time.monotonic()
        if waiting := self._waiting[kind]:
            self._tasks.put(waiting.popleft())
        if self._is_closed and not self._use:
            self._stop_threads()

    def _stop_threads(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)

    def close(self) -> None:
        """Refuse new work, and wait until all queued work is done."""
        with self._lock:
            self._is_closed = True
            if not self._use:
                self._stop_threads()
        for thread in self._threads:
            thread.join()


class _Task(Generic[T]):
    """Work that a thread does for a coroutine, which awaits `done`."""

    __slots__ = ("_error", "_loop", "_value", "_work", "done", "kind", "queued")

    def __init__(self, kind: str, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self.kind = kind
        self._work = work
        self._loop = loop
        self.queued = time.monotonic()
        self._value: T | None = None
        self._error: BaseException | None = None
        self.done: asyncio.Future[None] = loop.create_future()

    def do(self) -> None:
        """Run the work, unless it was cancelled or queued longer than `LONGEST_WAIT`."""
        if self.done.cancelled():
            return
        if time.monotonic() - self.queued > LONGEST_WAIT:
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

    async def run(
        self, pool: str, kind: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work of a kind in the named pool, or directly in the pool `inline`."""
        if pool == INLINE:
            return work(*args, **kwargs)
        return await self._pools[pool].run(kind, work, *args, **kwargs)

    def close(self) -> None:
        """Close every pool."""
        for pool in self._pools.values():
            pool.close()
