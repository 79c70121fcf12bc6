"""A clock that a test can put forward or back."""

import time


class Clock:
    """Stands for the module `time` in a module that asks for the time."""

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds that have gone by for whoever looks at this clock."""

    def time(self) -> float:
        """The wall clock."""
        return time.time() + self.ahead

    def monotonic(self) -> float:
        """The clock that nobody can set."""
        return time.monotonic() + self.ahead
