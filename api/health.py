"""Health and readiness: whether the process is running, and whether it can handle requests."""

import threading

from api.contract.engine_errors import Overloaded
from api.server.readiness import Readiness
from models.errors import DatabaseUnavailable


def get_health() -> dict[str, str]:
    """Report that the process is running."""
    return {"status": "ok"}


def get_readiness(readiness: Readiness, draining: threading.Event) -> dict[str, object]:
    """Report whether the service can handle requests; it cannot once it is shutting down."""
    if draining.is_set():
        raise Overloaded("The service is stopping.")
    if not readiness:
        raise DatabaseUnavailable
    return {"status": "ready", "checks": [{"name": "database", "status": "ok"}]}
