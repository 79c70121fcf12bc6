"""The application, as its server runs it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from api.server.logs import Logger
from api.server.metrics import Metrics
from api.server.problem_documents import Problems
from api.server.settings import Settings
from api.server.upkeep import Background
from models.storage.database import Database


@dataclass(frozen=True, slots=True)
class Application:
    """An ASGI application with the objects that its server needs.

    The server sets `draining` when the process is told to stop; from then on it is not ready.
    """

    settings: Settings
    asgi: ASGIApp
    draining: threading.Event
    problems: Problems
    database: Database
    metrics: Metrics
    logger: Logger
    background: Background
    close: Callable[[], None]

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Report the number of open connections as a metric."""
        self.metrics.watch_connections(count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or the lifespan."""
        await self.asgi(scope, receive, send)
