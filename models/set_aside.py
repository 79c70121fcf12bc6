"""Rows that a background job sets aside because they failed, so that the others have their turn."""

import time
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Generic, TypeVar

from models.errors import DatabaseUnavailable

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

ASIDE = timedelta(hours=1)
"""Time after which a row is tried again."""
_IN_A_ROW = 10
_MOST = 1000


class SetAside(Generic[K]):
    """The keys of a job's rows that failed in this process in the last hour. Not thread-safe.

    `report` is called for each row that is set aside, at most once an hour for the same row.
    """

    def __init__(self, report: Callable[[K, Exception], None]) -> None:
        self._report = report
        self._until: dict[K, float] = {}
        self._failures = 0

    @property
    def keys(self) -> list[K]:
        """The keys that a query for the job's next rows must leave out."""
        now = time.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return list(self._until)

    def attempt(self, key: K, work: Callable[[], T]) -> T | None:
        """Return the result of the work on one row, or set the row aside and return `None`.

        Raises:
            DatabaseUnavailable: The database failed, so the row is not to blame.
            Exception: The work failed after ten other rows in succession, or 1,000 rows are set
                aside already, so the cause is hardly the row.
        """
        try:
            result = work()
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if self._failures >= _IN_A_ROW or len(self._until) >= _MOST:
                raise
            self._failures += 1
            self._until[key] = time.monotonic() + ASIDE.total_seconds()
            self._report(key, error)
            return None
        self._failures = 0
        return result
