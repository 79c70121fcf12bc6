"""Database readiness, as last checked by the service.

The service checks once a second in a thread of its own, however many clients ask. Readiness
requests therefore cost neither a thread nor a query, never wait for a database that hangs, and do
not delay each other.
"""

import math
import time

from api.server.logs import Logger
from models.storage.database import Database

_GOOD_FOR = 3.0
"""Seconds without a successful check after which the database counts as not ready."""


class Readiness:
    """The result of the last check. Thread-safe."""

    def __init__(self, database: Database, logger: Logger) -> None:
        self._database = database
        self._logger = logger
        self._ready_at = -math.inf
        self._fault: str | None = None

    def check(self) -> None:
        """Check the database; this takes a few seconds if it hangs.

        The cause is logged when the database becomes unusable, and not at every check.
        """
        began = time.monotonic()
        fault = self._database.fault()
        self._ready_at = began if fault is None else -math.inf
        if fault is not None and self._fault is None:
            self._logger.warning("not ready", cause=fault)
        elif fault is None and self._fault is not None:
            self._logger.info("ready again")
        self._fault = fault

    def __bool__(self) -> bool:
        """Return at once whether the last checks found the database ready."""
        return time.monotonic() - self._ready_at < _GOOD_FOR
