"""What an application counts about itself, for Prometheus."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    start_http_server,
)

# Upper bounds in seconds: from an answer without a database to one that waited for every deadline.
_DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counts of one application, in a registry of its own.

    Labels are operation ids and statuses, which the contract bounds, and never anything that a
    client chooses.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "concord_requests",
            "Requests answered",
            ("operation", "status"),
            registry=self._registry,
        )
        self._durations = Histogram(
            "concord_request_duration_seconds",
            "Time from a request's first byte to its answer",
            ("operation",),
            buckets=_DURATIONS,
            registry=self._registry,
        )
        self._of_requests: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._violations = Counter(
            "concord_contract_violations",
            "Answers that the contract does not declare",
            ("operation",),
            registry=self._registry,
        )
        self._pool_use = Gauge(
            "concord_pool_use", "Members of a pool in use", ("pool",), registry=self._registry
        )
        ProcessCollector(registry=self._registry)

    def count_request(self, operation: str, status: int, seconds: float) -> None:
        """Count an answer of `operation` with `status` that took `seconds`."""
        try:
            answers, durations = self._of_requests[operation, status]
        except KeyError:
            # The contract bounds how many pairs there are.
            answers = self._requests.labels(operation, status)
            durations = self._durations.labels(operation)
            self._of_requests[operation, status] = answers, durations
        answers.inc()
        durations.observe(seconds)

    def count_violation(self, operation: str) -> None:
        """Count an answer of `operation` that the contract does not declare."""
        self._violations.labels(operation).inc()

    def watch_pool(self, pool: str, use: Callable[[], float]) -> None:
        """Report `use()` as the number of members of `pool` in use, asked for at each reading."""
        self._pool_use.labels(pool).set_function(use)

    def text(self) -> str:
        """All counts in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def start_server(self, port: int) -> "MetricsServer":
        """Serve the counts on the loopback address, on a free port if `port` is 0.

        Raises:
            OSError: if something else listens there.
        """
        server, thread = start_http_server(port, addr="127.0.0.1", registry=self._registry)
        return MetricsServer(server, thread)


@dataclass(frozen=True)
class MetricsServer:
    """A running server of counts."""

    _server: WSGIServer
    _thread: Thread

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop, and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
