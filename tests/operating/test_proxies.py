"""The configurations of proxies in `deploy/`, tried with the proxies."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from openapi_schema_validator import OAS30Validator, oas30_format_checker

from tests.faults.proxies import running_proxy
from tests.installed import ROOT, run
from tests.live import HOST, free_port, running_server
from tests.servers.proxy_examples import EXAMPLES, FILES, Answer, example, send, trusting
from tests.test_docs import README, follow_tour, tour
from tests.tools import find_tool

HSTS = "max-age=31536000; includeSubDomains"
"""`Strict-Transport-Security`, as SECURITY.md demands."""

pytestmark = pytest.mark.mission("M32")


@contextmanager
def client(certificate: Path, port: int) -> Iterator[httpx.Client]:
    with httpx.Client(verify=trusting(certificate), base_url=f"https://localhost:{port}") as client:
        yield client


@pytest.fixture(scope="module")
def problem() -> OAS30Validator:
    """The schema that every problem document must match."""
    contract = json.loads(run(sys.executable, "app.py", "openapi", "--format", "json"))
    return OAS30Validator(
        {"$ref": "#/components/schemas/Problem", "components": contract["components"]},
        format_checker=oas30_format_checker,
    )


def check_problem(answer: Answer, code: str, problem: OAS30Validator) -> None:
    """The response is a problem of a kind of the contract, as the service would send it."""
    document = json.loads(answer.body)
    problem.validate(document)
    kind = yaml.safe_load((ROOT / "openapi" / "problems" / f"{code}.yaml").read_text())
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert (document["code"], document["title"]) == (code, kind["title"])
    assert document["type"] == f"https://api.example.com/problems/{code}"
    assert answer.status == document["status"] == kind["status"]
    assert answer.headers["x-request-id"] == document["instance"]
    assert answer.headers["strict-transport-security"] == HSTS
    assert answer.headers.get("retry-after") == ("2" if answer.status == 503 else None)


@pytest.mark.parametrize("name", FILES)
def test_a_proxy_without_replicas_sends_a_problem(
    name: str, certificate: Path, tmp_path: Path, problem: OAS30Validator
) -> None:
    request = b"GET /v1/products HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running_proxy(example(name, certificate), free_port(), tmp_path) as port:
        first, second = (send(port, request, trusting(certificate)) for _ in range(2))
    for answer in (first, second):
        check_problem(answer, "overloaded", problem)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("name", FILES)
def test_a_proxy_with_a_broken_replica_sends_a_problem(
    name: str, certificate: Path, tmp_path: Path, problem: OAS30Validator
) -> None:
    """The proxy would send 502."""
    with (
        broken_replica() as replica,
        running_proxy(example(name, certificate), replica, tmp_path) as port,
    ):
        request = b"POST /v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        answer = send(port, request, trusting(certificate))
    check_problem(answer, "overloaded", problem)


@contextmanager
def broken_replica() -> Iterator[int]:
    """Listen on a port and answer no request but those for health."""

    class Replica(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.close_connection = True

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log nothing."""

    with ThreadingHTTPServer((HOST, 0), Replica) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


REJECTED_BY_NGINX = (
    (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost", "header-fields-too-large"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9_000, "header-fields-too-large"),
    (b"GET / HTTP/1.1\r\nHost: a/b", "malformed-request"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\na b: c", "malformed-request"),
    (b"TRACE / HTTP/1.1\r\nHost: localhost", "malformed-request"),
    (b"GET / HTTP/3.0\r\nHost: localhost", "malformed-request"),
    (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked",
        "malformed-request",
    ),
    (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16777217", "content-too-large"),
    (b"GET /nginx/overloaded HTTP/1.1\r\nHost: localhost", "not-found"),
)


def test_nginx_rejects_requests_with_problems(
    certificate: Path, tmp_path: Path, problem: OAS30Validator
) -> None:
    with running_proxy(example("nginx", certificate), free_port(), tmp_path) as port:
        for head, code in REJECTED_BY_NGINX:
            check_problem(send(port, head + b"\r\n\r\n", trusting(certificate)), code, problem)
        plain = send(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", None)
        check_problem(plain, "malformed-request", problem)


def test_caddy_listens_only_on_the_port_for_tls() -> None:
    """A redirect would hide from clients that they send tokens unencrypted."""
    file = str(EXAMPLES / "Caddyfile")
    adapted = run(find_tool("caddy"), "adapt", "--adapter", "caddyfile", "--config", file)
    [server] = json.loads(adapted)["apps"]["http"]["servers"].values()
    assert server["listen"] == [":443"]
    assert server["automatic_https"] == {"disable_redirects": True}
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    assert compose["services"]["proxy"]["ports"] == ["443:443"]


def test_the_tour_works_through_proxies_with_tls(certificate: Path, tmp_path: Path) -> None:
    find_tool("curl")
    with running_server(
        tmp_path, METRICS_PORT="0", TRUSTED_PROXIES=HOST, TRUST_FORWARDED_HOST="true"
    ) as server:
        for name in FILES:
            with running_proxy(example(name, certificate), server.port, tmp_path) as port:
                with client(certificate, port) as tls:
                    account = {"name": "Ada", "email": f"{name}@concord.example"}
                    made = tls.post("/v1/users", json=account)
                assert made.status_code == 201, made.text
                assert made.headers["location"].startswith("https://localhost")
                assert made.headers["strict-transport-security"] == HSTS
                long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n"
                rejected = send(port, long, trusting(certificate))
                assert json.loads(rejected.body)["code"] == "header-fields-too-large"
                if name == "nginx":
                    trusted = {"CURL_CA_BUNDLE": str(certificate / "certificate.pem")}
                    url = f"https://localhost:{port}"
                    printed = follow_tour(tour(README), url, tmp_path, trusted)
                    assert '"name":"Mary Shelley"' in printed[0]
