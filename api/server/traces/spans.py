"""Traces of requests, their handlers and SQL, and of background jobs, sent with OpenTelemetry.

The module is imported only if OTEL_EXPORTER_OTLP_ENDPOINT is set. Spans contain operations, routes,
statuses and SQL without values, but nothing that clients send. The names of attributes follow the
semantic conventions (https://opentelemetry.io/docs/specs/semconv/).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, Tracer, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from api.contract.serve.request import Answer, Next, Request

_SEND_SECONDS = 3.0
_SERVER_ERROR = 500
_PROPAGATOR = TraceContextTextMapPropagator()


class RequestSpan:
    """The span of a request; it continues the trace of the client's `traceparent`."""

    def __init__(self, tracer: Tracer, request: Request) -> None:
        self._tracer = tracer
        self._span = tracer.start_span(
            request.method,
            _PROPAGATOR.extract(request.fields),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": request.method},
        )
        self.trace_id = trace.format_trace_id(self._span.get_span_context().trace_id)

    def handle(self, work: Next) -> Next:
        """Return `work` in a span named `handler`, which is the parent of its SQL."""

        def run(request: Request) -> Answer:
            # The request's span has its status. Neither a refusal nor a lookup that a thread then
            # repeats is an error of the handler.
            with (
                use_span(self._span, record_exception=False, set_status_on_exception=False),
                self._tracer.start_as_current_span(
                    "handler", record_exception=False, set_status_on_exception=False
                ),
            ):
                return work(request)

        return run

    def end(self, request: Request, status: int | None) -> None:
        """Name the span after the operation's path, and end it."""
        if request.operation is not None:
            self._span.update_name(f"{request.method} {request.operation.path}")
            self._span.set_attribute("http.route", request.operation.path)
        self._span.set_attribute("concord.request_id", request.id)
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= _SERVER_ERROR:
                self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Spans:
    """Sends spans to a collector in a thread of its own. The other OTEL_ variables apply as well.

    If the collector is unreachable, spans are dropped, and requests do not wait.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        own = Resource({"service.name": "concord", "service.version": version})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
        address = f"{endpoint.rstrip('/')}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=address, timeout=_SEND_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("concord", version)

    def start_span(self, request: Request) -> RequestSpan:
        """Start the span of a request."""
        return RequestSpan(self._tracer, request)

    @contextmanager
    def job(self, name: str) -> Iterator[None]:
        """Record the block as a run of a background job."""
        # Messages of errors may contain personal data. The logs describe errors without messages.
        with self._tracer.start_as_current_span(f"job {name}", record_exception=False):
            yield

    def statement(self, sql: str) -> Callable[[], None]:
        """Start the span of an SQL statement within another span, and return what ends it."""
        if not trace.get_current_span().is_recording():
            return _end_nothing
        attributes = {"db.query.text": sql}
        return self._tracer.start_span(
            sql.split(maxsplit=1)[0], kind=SpanKind.CLIENT, attributes=attributes
        ).end

    def close(self) -> None:
        """Send the spans that are left."""
        self._provider.shutdown()


def _end_nothing() -> None:
    """End the span of a statement that is not recorded."""
