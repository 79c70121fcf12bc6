"""Whether the process is alive, and whether it should get requests: two different questions."""

import threading

from api.contract.errors import Overloaded
from models.database import Database
from models.errors import DatabaseUnavailable


def get_health() -> dict[str, str]:
    """Answer, which is all that being alive takes."""
    return {"status": "ok"}


def get_readiness(database: Database, draining: threading.Event) -> dict[str, object]:
    """Ask what the service needs; one that is about to stop is not ready."""
    if draining.is_set():
        raise Overloaded("The service is stopping.")
    if not database.is_ready():
        raise DatabaseUnavailable
    return {"status": "ready", "checks": [{"name": "database", "status": "ok"}]}
