"""The end of the event feed, as each process knows it."""

import asyncio
import threading
import time
from typing import ClassVar
from uuid import UUID

from api.contract.serve.request import Request
from models.events.feed import newest_event, place_events
from models.storage.database import Database


class FeedTail:
    """Places new events, and lets requests wait for them without holding a thread.

    Any process may place an event, so each process asks for the newest one.
    """

    PAUSE: ClassVar = 0.25
    """Seconds between two looks at the database."""

    def __init__(self, database: Database, draining: threading.Event) -> None:
        self._database = database
        self._draining = draining
        self._newest: UUID | None = None

    def advance(self) -> bool:
        """Place a batch of new events, and return whether more may be waiting.

        Raises:
            DatabaseUnavailable: The database failed.
        """
        more = place_events(self._database)
        self._newest = self._database.read(newest_event, single=True)
        return more

    async def wait(self, request: Request) -> None:
        """Wait until the feed has events after `after`, but at most `wait` seconds.

        A server that is about to stop does not wait.
        """
        seconds, after = request.query_values["wait"], request.query_values["after"]
        seen = UUID(after) if isinstance(after, str) else None
        deadline = time.monotonic() + (seconds if isinstance(seconds, int) else 0)
        while self._newest == seen and time.monotonic() < deadline and not self._draining.is_set():  # noqa: ASYNC110 - another thread sets the value.
            await asyncio.sleep(self.PAUSE / 2)
