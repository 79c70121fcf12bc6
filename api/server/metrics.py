"""Prometheus metrics of an application."""

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

# Upper bounds in seconds: from a response without a database to one that reached every deadline.
_DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application, in a registry of its own.

    Labels are operation ids and statuses, which the contract bounds, and never values that clients
    choose.
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
            "Time from a request's first byte to its response",
            ("operation",),
            buckets=_DURATIONS,
            registry=self._registry,
        )
        self._of_requests: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._violations = Counter(
            "concord_contract_violations",
            "Responses that break the contract",
            ("operation",),
            registry=self._registry,
        )
        self._pool_use = Gauge(
            "concord_pool_use", "Members of a pool in use", ("pool",), registry=self._registry
        )
        self._jobs = Gauge(
            "concord_job_last_success_timestamp_seconds",
            "Time at which a background job last succeeded",
            ("job",),
            registry=self._registry,
        )
        self._job_failures = Counter(
            "concord_job_failures",
            "Failed runs of a background job",
            ("job",),
            registry=self._registry,
        )
        self._rows_set_aside = Counter(
            "concord_job_rows_set_aside",
            "Rows that a background job set aside because they failed",
            ("job",),
            registry=self._registry,
        )
        self._payment_events = Counter(
            "concord_payment_events",
            "Events received from payment providers",
            ("provider", "outcome"),
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def count_request(self, operation: str, status: int, seconds: float) -> None:
        """Count a response of `operation` with `status` that took `seconds`."""
        try:
            answers, durations = self._of_requests[operation, status]
        except KeyError:
            # The contract bounds the number of pairs.
            answers = self._requests.labels(operation, status)
            durations = self._durations.labels(operation)
            self._of_requests[operation, status] = answers, durations
        answers.inc()
        durations.observe(seconds)

    def count_violation(self, operation: str) -> None:
        """Count a response of `operation` that breaks the contract."""
        self._violations.labels(operation).inc()

    def count_job(self, job: str, *, succeeded: bool) -> None:
        """Count a run of a background job."""
        if succeeded:
            self._jobs.labels(job).set_to_current_time()
        else:
            self._job_failures.labels(job).inc()

    def count_row_set_aside(self, job: str) -> None:
        """Count a row that a background job set aside."""
        self._rows_set_aside.labels(job).inc()

    def count_payment_event(self, provider: str, outcome: str) -> None:
        """Count an event of a payment provider that the settings name."""
        self._payment_events.labels(provider, outcome).inc()

    def watch_pool(self, pool: str, use: Callable[[], float]) -> None:
        """Report `use()` as the use of `pool`, evaluated at every scrape."""
        self._pool_use.labels(pool).set_function(use)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def start_server(self, port: int, host: str = "127.0.0.1") -> "MetricsServer":
        """Serve the metrics on an address; port 0 selects a free port.

        Raises:
            OSError: the port is in use.
        """
        server, thread = start_http_server(port, addr=host, registry=self._registry)
        return MetricsServer(server, thread)


@dataclass(frozen=True)
class MetricsServer:
    """A running metrics server."""

    _server: WSGIServer
    _thread: Thread

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop the server and free its port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
