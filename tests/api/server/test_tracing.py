"""Traces: the client's trace id in the logs, and spans in a collector (OTLP over HTTP)."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from api.contract.serve.request import trace_id
from models.catalogue.product import Product
from tests.api.commands import failure, make_run
from tests.databases import KINDS, make_database_url
from tests.service import running

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"

pytestmark = pytest.mark.mission("M32")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (TRACEPARENT, TRACE),
        (f"cc-{TRACE}-{PARENT}-01-more", TRACE),
        (f"cc-{TRACE}-{PARENT}-01", TRACE),
        (f"{TRACEPARENT}-more", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (TRACEPARENT.upper(), None),
        (f"{TRACEPARENT}\n", None),
        (f"{TRACEPARENT}, {TRACEPARENT}", None),
        ("", None),
        (None, None),
    ],
)
def test_a_trace_id_is_taken_from_a_valid_header_only(
    header: str | None, found: str | None
) -> None:
    assert trace_id(header) == found


def test_the_trace_id_is_logged_with_requests_and_failures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Product, "visible_to", fail)
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url) as service:
        client = service.client()
        answer = client.get("/v1/products/1", headers={"traceparent": TRACEPARENT})
        assert answer.status_code == 500
        assert client.get("/v1/products", headers={"traceparent": "none"}).status_code == 200
    lines = capfd.readouterr().err.splitlines()
    for event in ("request failed", "request "):
        assert any(event in line and f"trace_id={TRACE}" in line for line in lines)
    assert not any("list_products" in line and "trace_id" in line for line in lines)


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Export)


class _Export(BaseHTTPRequestHandler):
    server: Collector  # type: ignore[mutable-override]  # The server's own class.

    def do_POST(self) -> None:
        """Take spans in protobuf."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.services |= {
                each.value.string_value
                for each in resource.resource.attributes
                if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_a_collector_receives_spans_of_requests_and_jobs(kind: str, tmp_path: Path) -> None:
    with collecting() as collector, make_database_url(kind, tmp_path) as url:
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with running(tmp_path, url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as service:
            client = service.client()
            answer = client.get("/v1/products?q=zanzibar", headers={"traceparent": TRACEPARENT})
            assert answer.status_code == 200
            assert client.get("/v1/products/7").status_code == 404
            until = time.monotonic() + 60
            while 'timestamp_seconds{job="mail"}' not in service.app.metrics.text():
                assert time.monotonic() < until
                time.sleep(0.05)
        # The service sends what is left before it ends.
    assert collector.services == {"concord"}
    named = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    request, handler = named["GET /v1/products"], named["handler"]
    assert request.parent_span_id.hex() == PARENT
    assert handler.parent_span_id == request.span_id
    assert named["SELECT"].parent_span_id == handler.span_id
    attributes = {each.key: each.value for each in request.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["http.route"].string_value == "/v1/products"
    # A refusal is no error of the handler.
    assert not any(span.status.code for span in collector.spans)
    others = {span.name for span in collector.spans if span.trace_id.hex() != TRACE}
    assert "GET /v1/products/{product_id}" in others
    job = next(span for span in collector.spans if span.name == "job mail")
    assert not job.parent_span_id
    assert any(span.parent_span_id == job.span_id for span in collector.spans)
    # Nothing that clients send is in a trace.
    assert b"zanzibar" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_traces_need_the_packages_of_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "api.server.traces.spans", None)
    [line] = failure(run("serve", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318"))
    assert line.endswith("needs the packages of requirements-all.txt")
