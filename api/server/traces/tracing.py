"""Tracing of an application, which costs nothing if no collector is set."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from api.contract.serve.request import Request, Span
from api.server.setting_files import SettingsError
from api.server.upkeep import Job
from models.storage.database import Database


@dataclass(frozen=True, slots=True)
class Tracing:
    """What an application calls to record its traces. By default, nothing is recorded."""

    start_span: Callable[[Request], Span] | None = None
    """Starts the span of a request."""
    job: Callable[[str], AbstractContextManager[object]] = nullcontext
    """Records a block as a run of a background job."""
    close: Callable[[], None] = lambda: None
    """Sends the spans that are left."""

    def traced(self, job: Job) -> Job:
        """Return a job that records each of its runs, if anything is recorded."""
        if self.start_span is None:
            return job

        def work() -> object:
            with self.job(job.name):
                return job.work()

        return replace(job, work=work)


def make_tracing(endpoint: str | None, version: str, database: Database) -> Tracing:
    """Return the tracing that sends spans, also of SQL statements, to a collector's URL.

    Raises:
        SettingsError: there is a URL, but the packages of the extra `otel` are not installed.
    """
    if endpoint is None:
        return Tracing()
    try:
        from api.server.traces.spans import Spans  # noqa: PLC0415 - an extra that few install.
    except ImportError as error:
        reason = "OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of requirements-all.txt"
        raise SettingsError((reason,)) from error
    spans = Spans(endpoint, version)
    database.watch_statements(spans.statement)
    return Tracing(spans.start_span, spans.job, spans.close)
