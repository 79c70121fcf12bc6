"""Counters of rate limits in this process's memory, as a storage of the `limits` package.

The package's own hands its clean-up to a thread at every request, which costs more than counting.
This one lives on the event loop: a window is a queue of instants, what has left the window is
dropped when the key is next counted, and keys that nobody counts any more are swept now and then.
Instants are those of a clock that is never stepped.
"""

import time
from collections import deque
from dataclasses import dataclass, field

from limits.aio.storage import MovingWindowSupport, Storage

_SWEEP_EVERY = 4096
"""Counted requests between two sweeps."""
_MAX_KEYS = 100_000
"""Keys kept at the most: beyond that those unused for longest are forgotten."""


@dataclass(slots=True)
class _Window:
    ends: float = 0.0
    entries: deque[float] = field(default_factory=deque)


class LocalCounters(Storage, MovingWindowSupport):
    """Moving windows and counters that expire, by key."""

    STORAGE_SCHEME: list[str] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, _Window] = {}
        self._counts: dict[str, tuple[int, float]] = {}
        self._until_sweep = _SWEEP_EVERY

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the storage may raise: nothing of its own."""
        return Exception

    def enter(self, key: str, limit: int, expiry: int, amount: int = 1) -> tuple[bool, float, int]:
        """Enter `amount` requests into the window of `expiry` seconds, if `limit` allows.

        Returns whether they are in, the seconds since the oldest that is in, and how many are.
        """
        now = time.monotonic()
        window = self._window(key, now, expiry)
        entries = window.entries
        is_granted = len(entries) + amount <= limit
        if is_granted:
            entries.extend([now] * amount)
            window.ends = now + expiry
        return is_granted, now - entries[0] if entries else 0.0, len(entries)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Do the same; tell only whether they are in."""
        return self.enter(key, limit, expiry, amount)[0]

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the window's oldest request came, and how many are in it."""
        del limit
        now = time.monotonic()
        entries = self._window(key, now, expiry).entries
        age = now - entries[0] if entries else 0.0
        return time.time() - age, len(entries)

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter, which expires `expiry` seconds from now."""
        count = await self.get(key) + amount
        self._counts.pop(key, None)
        self._counts[key] = (count, time.monotonic() + expiry)
        self._bound(self._counts)
        return count

    async def get(self, key: str) -> int:
        """Return a counter; one that has expired is 0."""
        count, ends = self._counts.get(key, (0, 0.0))
        return count if ends > time.monotonic() else 0

    async def get_expiry(self, key: str) -> float:
        """Return when a counter expires."""
        left = self._counts.get(key, (0, time.monotonic()))[1] - time.monotonic()
        return time.time() + left

    async def check(self) -> bool:
        """Memory is always there."""
        return True

    async def reset(self) -> int:
        """Forget everything; the number of keys that there were."""
        number = len(self._windows) + len(self._counts)
        self._windows.clear()
        self._counts.clear()
        return number

    async def clear(self, key: str) -> None:
        """Forget one key."""
        self._windows.pop(key, None)
        self._counts.pop(key, None)

    def _window(self, key: str, now: float, expiry: int) -> _Window:
        window = self._windows.pop(key, None)
        if window is None or window.ends <= now:
            window = _Window(ends=now + expiry)
        # What is counted goes to the end, so that the first are those unused for longest.
        self._windows[key] = window
        self._bound(self._windows)
        entries = window.entries
        while entries and entries[0] <= now - expiry:
            entries.popleft()
        return window

    def _bound(self, keys: dict[str, _Window] | dict[str, tuple[int, float]]) -> None:
        """Sweep now and then; if there are still too many keys, forget the one unused longest."""
        self._until_sweep -= 1
        if not self._until_sweep:
            self._until_sweep = _SWEEP_EVERY
            now = time.monotonic()
            self._windows = {key: each for key, each in self._windows.items() if each.ends > now}
            self._counts = {key: each for key, each in self._counts.items() if each[1] > now}
        elif len(keys) > _MAX_KEYS:
            del keys[next(iter(keys))]
