"""Prometheus metrics of an application."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
    start_http_server,
)

from models.jobs.backlog import Backlog
from models.replica import ReplicatedDatabase
from models.storage.database import Database

# Upper bounds in seconds: from a response without a database to one that reached every deadline.
_DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application, in a registry of its own.

    Labels are operation ids and statuses, which the contract bounds, and never values that clients
    choose.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        # Collectors run in the order of their registration, so this one updates the gauges first.
        self._registry.register(self)
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
        self._pool_use = self._gauge("pool_use", "Requests that have or want a thread", "pool")
        self._pool_threads = self._gauge("pool_threads", "Threads of a pool", "pool")
        self._pool_waiting = self._gauge(
            "pool_waiting", "Requests that wait for a thread of a pool", "pool"
        )
        self._connections = self._gauge("open_connections", "Connections of clients")
        self._database_limit, self._database_open, self._database_used = (
            self._gauge(f"database_connections_{name}", meaning, "pool")
            for name, meaning in (
                ("limit", "Maximum number of connections of a pool to the database"),
                ("open", "Open connections of a pool to the database"),
                ("used", "Connections of a pool to the database that are in use"),
            )
        )
        self._database_waits = Counter(
            "concord_database_waits",
            "Waits of threads for a database connection",
            ("pool", "outcome"),
            registry=self._registry,
        )
        self._database_wait_seconds = Counter(
            "concord_database_wait_seconds",
            "Time that threads waited for a database connection",
            ("pool",),
            registry=self._registry,
        )
        self._replica_reads = Counter(
            "concord_replica_reads",
            "Reads that a replica may serve, by the server that was asked",
            ("server",),
            registry=self._registry,
        )
        for server in ("replica", "primary"):
            self._replica_reads.labels(server)
        self._replica_age = Gauge(
            "concord_replica_age_seconds",
            "Age of the newest state that the replica has shown to a process",
            multiprocess_mode="livemax",
            registry=self._registry,
        )
        self._counted = self._gauge(
            "rate_limits_counted", "Processes whose last request to a rate limit was counted"
        )
        self._rejections = Counter(
            "concord_rate_limit_rejections",
            "Requests that a rate limit rejected",
            ("limit",),
            registry=self._registry,
        )
        self._build = self._gauge(
            "build_info", "Version of the contract and of the schema", "version", "schema"
        )
        self._jobs = Gauge(
            "concord_job_last_success_timestamp_seconds",
            "Time at which a background job last succeeded",
            ("job",),
            multiprocess_mode="max",
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
        self._webhooks = Counter(
            "concord_webhook_attempts",
            "Attempts to deliver events to webhook endpoints",
            ("outcome",),
            registry=self._registry,
        )
        # Every process reports the same values, so they are not summed.
        self._messages, self._message_seconds, self._overdue_orders = (
            Gauge(f"concord_{name}", meaning, multiprocess_mode="livemax", registry=self._registry)
            for name, meaning in (
                ("messages_waiting", "Messages in the outbox"),
                ("oldest_message_seconds", "Age of the oldest message in the outbox"),
                ("overdue_orders", "Unpaid orders that should have expired"),
            )
        )
        ProcessCollector(registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """Return a gauge of which several workers report the sum."""
        return Gauge(
            f"concord_{name}",
            meaning,
            labels,
            multiprocess_mode="livesum",
            registry=self._registry,
        )

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

    def count_rejection(self, limit: str) -> None:
        """Count a request that exceeds a rate limit of the contract."""
        self._rejections.labels(limit).inc()

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

    def set_backlog(self, backlog: Backlog) -> None:
        """Report the background work that is waiting in the database."""
        self._messages.set(backlog.messages)
        self._message_seconds.set(backlog.message_seconds)
        self._overdue_orders.set(backlog.overdue_orders)

    def set_build(self, version: str, schema: str) -> None:
        """Report the version of the contract, and the newest one of the schema."""
        self._build.labels(version, schema).set(1)

    def watch_pool(self, pool: str, threads: int, use: Callable[[], int]) -> None:
        """Report `use()`, the number of requests that have or want one of the pool's threads."""
        self._pool_threads.labels(pool).set(threads)
        self._watched += [
            (self._pool_use.labels(pool), use),
            (self._pool_waiting.labels(pool), lambda: max(0, use() - threads)),
        ]

    def watch_database(self, database: Database) -> None:
        """Report the connections of each pool of a database, and waits for them."""
        for name, pool in database.pools.items():
            self._database_limit.labels(name).set(pool.size())
            self._watched += [
                (self._database_open.labels(name), pool.opened),
                (self._database_used.labels(name), pool.checkedout),
            ]
            for outcome in ("served", "timed_out"):
                self._database_waits.labels(name, outcome)
            self._database_wait_seconds.labels(name)
            pool.on_wait = partial(self._count_wait, name)
        if isinstance(database, ReplicatedDatabase):
            database.on_read = lambda server: self._replica_reads.labels(server).inc()
            self._watched.append((self._replica_age, database.age))

    def _count_wait(self, pool: str, seconds: float, outcome: str) -> None:
        self._database_waits.labels(pool, outcome).inc()
        self._database_wait_seconds.labels(pool).inc(seconds)

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Report `count()`, the number of open connections."""
        self._watched.append((self._connections, count))

    def watch_rate_limits(self, is_counted: Callable[[], bool]) -> None:
        """Report `is_counted()`, whether rate limits are counted."""
        self._watched.append((self._counted, is_counted))

    def refresh(self) -> None:
        """Update what is watched. A worker does so every second, others at every scrape."""
        for gauge, value in self._watched:
            gauge.set(value())

    def collect(self) -> Iterable[Metric]:
        """Update what is watched, as a collector without metrics of its own."""
        self.refresh()
        return ()

    def count_webhook(self, *, succeeded: bool) -> None:
        """Count an attempt to deliver an event to a webhook endpoint."""
        self._webhooks.labels("delivered" if succeeded else "failed").inc()

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def start_server(self, port: int, host: str = "127.0.0.1") -> "MetricsServer":
        """Serve the metrics on an address; port 0 selects a free port.

        Raises:
            OSError: the port is in use.
        """
        return MetricsServer.open(self._registry, port, host)


@dataclass(frozen=True)
class MetricsServer:
    """A running metrics server."""

    _server: WSGIServer
    _thread: Thread

    @classmethod
    def open(cls, registry: CollectorRegistry, port: int, host: str) -> "MetricsServer":
        """Serve the metrics of a registry on an address; port 0 selects a free port.

        Raises:
            OSError: the port is in use.
        """
        return cls(*start_http_server(port, addr=host, registry=registry))

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop the server and free its port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
