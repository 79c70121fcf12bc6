"""In-memory rate-limit counters, as a storage of the `limits` package.

The package's own storage starts a clean-up thread for every request, which costs more than
counting. This one lives on the event loop: a window is a queue of times. Times outside the window
are dropped when its key is counted next, and keys that are no longer counted are swept at
intervals. All times come from the monotonic clock.
"""

import time
from collections import deque
from dataclasses import dataclass, field

from limits.aio.storage import MovingWindowSupport, Storage

_SWEEP_EVERY = 4096
"""Number of counted requests between two sweeps."""
_MAX_KEYS = 100_000
"""Maximum number of keys; beyond it, the least recently used one is dropped."""


@dataclass(slots=True)
class _Window:
    ends: float = 0.0
    entries: deque[float] = field(default_factory=deque)


class LocalCounters(Storage, MovingWindowSupport):
    """Moving windows and expiring counters, by key."""

    STORAGE_SCHEME: list[str] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, _Window] = {}
        self._counts: dict[str, tuple[int, float]] = {}
        self._until_sweep = _SWEEP_EVERY

    @property
    def base_exceptions(self) -> type[Exception]:
        """Errors that the storage may raise. It raises none of its own."""
        return Exception

    def enter(self, key: str, limit: int, expiry: int, amount: int = 1) -> tuple[bool, float, int]:
        """Enter `amount` requests into a window of `expiry` seconds, if `limit` allows.

        Return whether they were entered, the age of the window's oldest request in seconds, and
        the number of requests in the window.
        """
        now = time.monotonic()
        window = self._window(key, now, expiry)
        entries = window.entries
        is_granted = len(entries) + amount <= limit
        if is_granted:
            entries.extend([now] * amount)
            window.ends = now + expiry
        return is_granted, now - entries[0] if entries else 0.0, len(entries)

    def drop_newest(self, key: str) -> None:
        """Remove the newest request from a window, if there is one."""
        window = self._windows.get(key)
        if window is not None and window.entries:
            window.entries.pop()

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Enter requests into a window, and return whether they were entered."""
        return self.enter(key, limit, expiry, amount)[0]

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the time of the window's oldest request, and the number of requests in it."""
        del limit
        now = time.monotonic()
        entries = self._window(key, now, expiry).entries
        age = now - entries[0] if entries else 0.0
        return time.time() - age, len(entries)

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter, and let it expire `expiry` seconds from now."""
        count = await self.get(key) + amount
        self._counts.pop(key, None)
        self._counts[key] = (count, time.monotonic() + expiry)
        self._bound(self._counts)
        return count

    async def get(self, key: str) -> int:
        """Return a counter's value; an expired counter is 0."""
        count, ends = self._counts.get(key, (0, 0.0))
        return count if ends > time.monotonic() else 0

    async def get_expiry(self, key: str) -> float:
        """Return the Unix time at which a counter expires."""
        left = self._counts.get(key, (0, time.monotonic()))[1] - time.monotonic()
        return time.time() + left

    async def check(self) -> bool:
        """Return true, because memory is always available."""
        return True

    async def reset(self) -> int:
        """Remove all keys, and return how many there were."""
        number = len(self._windows) + len(self._counts)
        self._windows.clear()
        self._counts.clear()
        return number

    async def clear(self, key: str) -> None:
        """Remove one key."""
        self._windows.pop(key, None)
        self._counts.pop(key, None)

    def _window(self, key: str, now: float, expiry: int) -> _Window:
        window = self._windows.pop(key, None)
        if window is None or window.ends <= now:
            window = _Window(ends=now + expiry)
        # Keys are in order of use: a counted key moves to the end.
        self._windows[key] = window
        self._bound(self._windows)
        entries = window.entries
        while entries and entries[0] <= now - expiry:
            entries.popleft()
        return window

    def _bound(self, keys: dict[str, _Window] | dict[str, tuple[int, float]]) -> None:
        """Sweep expired keys at intervals; otherwise drop the least recently used one if needed."""
        self._until_sweep -= 1
        if not self._until_sweep:
            self._until_sweep = _SWEEP_EVERY
            now = time.monotonic()
            self._windows = {key: each for key, each in self._windows.items() if each.ends > now}
            self._counts = {key: each for key, each in self._counts.items() if each[1] > now}
        elif len(keys) > _MAX_KEYS:
            del keys[next(iter(keys))]
