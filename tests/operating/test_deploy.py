"""The files of `deploy/`: units, images and proxies, tried with the programs that read them."""

import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory

import httpx
import pytest
import yaml
from openapi_schema_validator import OAS30Validator, oas30_format_checker

from api.credentials.signing import KeyRing
from api.server.processes import supervisor
from api.server.settings import Settings
from tests.databases import make_database_url
from tests.faults.proxies import PROXIES, Proxy, running_proxy
from tests.installed import ROOT, build_wheel, install, run
from tests.live import HOST, free_port, running_program, running_server, running_worker
from tests.mailbox import wait_for
from tests.test_docs import README, TOUR_URL, as_pattern, follow_tour, tour
from tests.tools import find_tool, without

DEPLOY = ROOT / "deploy"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
HSTS = "max-age=31536000; includeSubDomains"
"""`Strict-Transport-Security`, as SECURITY.md demands."""
EXPOSURE = 2.0
"""The highest exposure that `systemd-analyze security` may find; 10 is none at all."""

pytestmark = pytest.mark.mission("M32")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for localhost and its key, apart and together."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        *(find_tool("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
        *("-addext", f"subjectAltName=DNS:localhost,IP:{HOST}"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
    ]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command.
    both = (folder / "certificate.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "both.pem").write_text(both)
    return folder


def example(name: str, certificate: Path, second: int | str = "$upstream") -> Proxy:
    """The example of a proxy, with ports and files of the test in place of those of a machine.

    `second` is the port of the second replica, without which there is only one.
    """
    [known] = [proxy for proxy in PROXIES if proxy.name == name]
    text = (DEPLOY / "proxies" / FILES[name]).read_text().replace("$", "$$")
    places = {
        "events {}": "daemon off; master_process off; pid $folder/nginx.pid; events {}",
        "access_log off;": "access_log off;"
        + "".join(
            f" {kind}_temp_path $folder/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
        "127.0.0.1:8080": "$host:$upstream",
        "127.0.0.1:8081": f"$host:{second}",
        "listen 443": "listen $host:$port",
        "bind :443": "bind $host:$port",
        "/etc/concord/tls": str(certificate),
        "\tauto_https": "\tadmin off\n\tauto_https",
        "{$$CONCORD_HOST:api.example.com} {": f"https://localhost:$port, https://{HOST}:$port {{",
        "\treverse_proxy": f"\ttls {certificate}/certificate.pem {certificate}/key.pem\n"
        "\treverse_proxy",
        "{$$CONCORD_UPSTREAM:$host:$upstream $host:$upstream}": "$host:$upstream",
    }
    for place, value in places.items():
        text = text.replace(place, value)
    return Proxy(name, text, known.arguments)


@contextmanager
def client(certificate: Path, port: int) -> Iterator[httpx.Client]:
    with httpx.Client(verify=trusting(certificate), base_url=f"https://localhost:{port}") as client:
        yield client


@dataclass(frozen=True)
class Answer:
    """A response of a proxy."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send(port: int, request: bytes, tls: ssl.SSLContext | None) -> Answer:
    """Send bytes that no HTTP client would send, with TLS or without."""
    with socket.create_connection((HOST, port), timeout=30) as plain:
        connection = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        with connection:
            connection.sendall(request)
            answer = HTTPResponse(connection)
            answer.begin()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "certificate.pem"))


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
    file = str(DEPLOY / "proxies" / "Caddyfile")
    adapted = run(find_tool("caddy"), "adapt", "--adapter", "caddyfile", "--config", file)
    [server] = json.loads(adapted)["apps"]["http"]["servers"].values()
    assert server["listen"] == [":443"]
    assert server["automatic_https"] == {"disable_redirects": True}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
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


@pytest.fixture
def machine() -> Iterator[Path]:
    """A folder that other users can enter, unlike those of pytest."""
    with TemporaryDirectory(prefix="concord-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def unprivileged() -> tuple[str, ...]:
    """The beginning of a command that an unprivileged user is to run."""
    setpriv = find_tool("setpriv")
    if os.geteuid() != 0:
        without("only root can run commands as other users")
    user = pwd.getpwnam("nobody")
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}")
    return setpriv, *ids, "--clear-groups", "--no-new-privs", "--bounding-set=-all"


def copy_python(place: Path) -> str:
    """Copy the Python that runs the tests, which may be in a private home; return the copy."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "bin").mkdir(parents=True)
    shutil.copy(base / "bin" / version, place / "bin")
    unused = shutil.ignore_patterns("site-packages", "dist-packages", "test", "config-*")
    shutil.copytree(base / "lib" / version, place / "lib" / version, ignore=unused)
    for library in (base / "lib").glob(f"lib{version}.so*"):
        shutil.copy(library, place / "lib")
    return str(place / "bin" / version)


@pytest.mark.postgresql
def test_an_unprivileged_user_runs_the_package_behind_tls(
    certificate: Path, machine: Path, tmp_path: Path
) -> None:
    find_tool("curl")
    user = unprivileged()
    python = copy_python(machine / "python")
    program = (*user, install(build_wheel(tmp_path), machine / "prefix", python))
    key = machine / "signing-key.pem"
    places = [machine / name for name in ("first", "second", "worker")]
    for place in places:
        place.mkdir()
        shutil.chown(place, "nobody")
    with make_database_url("postgresql", tmp_path, migrated=False) as url:
        KeyRing.load(key, create=True)
        shutil.chown(key, "nobody")
        environment = {
            "APP_ENV": "production",
            "DATABASE_URL": url,
            "SIGNING_KEY_FILE": str(key),
            "STORAGE_URL": f"file:{places[0] / 'files'}",
            "MAIL_URL": f"file:{places[2] / 'mail'}",
            "PUBLIC_URL": TOUR_URL,
            "METRICS_PORT": "0",
            "DRAIN_SECONDS": "0",
            "TRUSTED_PROXIES": HOST,
            "TRUST_FORWARDED_HOST": "true",
            "HOME": str(places[0]),
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(machine / "python" / "lib"),
        }
        migrated = subprocess.run(  # noqa: S603 - our own package.
            [*program, "migrate"], env=environment, cwd=places[2], check=False, stderr=PIPE
        )
        assert migrated.returncode == 0, migrated.stderr.decode()
        with (
            running_worker(places[2], environment, program=program),
            running_program(program, places[0], environment, "--no-upkeep") as first,
            running_program(program, places[1], environment, "--no-upkeep") as second,
            running_proxy(example("nginx", certificate, second.port), first.port, tmp_path) as port,
        ):
            steps, trusted = tour(README), {"CURL_CA_BUNDLE": str(certificate / "certificate.pem")}
            [printed] = follow_tour(steps, f"https://localhost:{port}", tmp_path, trusted)
            # Only the worker sends messages.
            wait_for(places[2] / "mail", "mary@concord.example", "welcome")
            for replica in (first, second):
                assert '"operation":' in replica.log_text()
    assert as_pattern(steps[0].printed or "").fullmatch(printed)
    code = str(machine / "prefix" / "lib")
    command = [*user, find_tool("find"), code, "-not", "-type", "l", "-writable"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b""  # noqa: S603 - a command of our own.


def test_the_dockerfile_follows_the_rules_of_hadolint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    run(str(hadolint), str(DEPLOY / "Dockerfile"))


def test_the_compose_file_is_valid() -> None:
    dclint = find_tool(str(ROOT / "tests/contract/node_modules/.bin/dclint"))
    # The proxy is there for everybody, so it publishes its ports on all interfaces.
    rule = "no-unbound-port-interfaces"
    run(dclint, str(DEPLOY / "compose.yaml"), "--quiet", "--disable-rule", rule)


def test_the_image_is_built_from_the_files_of_the_package_only() -> None:
    """Keys, backups and databases beside the code must not enter a layer of the image."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    needed = {
        *packed,
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements-all.txt",
        "requirements-build.txt",
    }
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == needed


@pytest.mark.parametrize("name", ["concord.service", "concord-worker.service"])
def test_the_units_are_valid_and_hardened(name: str, tmp_path: Path) -> None:
    analyze = find_tool("systemd-analyze")
    # The program that the unit starts is not installed here.
    unit = tmp_path / name
    text = (DEPLOY / "systemd" / name).read_text()
    unit.write_text(text.replace("/opt/concord/bin/concord", find_tool("true")))
    checked = subprocess.run(  # noqa: S603 - our own command.
        [analyze, "verify", str(unit)], capture_output=True, check=False, text=True
    )
    assert (checked.returncode, str(unit) in checked.stderr) == (0, False), checked.stderr
    rated = subprocess.run(  # noqa: S603 - our own command.
        [analyze, "security", "--offline=yes", "--no-pager", str(unit)],
        capture_output=True,
        check=True,
        text=True,
    )
    last = rated.stdout.splitlines()[-1]
    assert float(last.split(f"{name}: ")[1].split()[0]) <= EXPOSURE


def read_unit(name: str) -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read_string((DEPLOY / "systemd" / name).read_text())
    return unit


def test_the_units_share_files_and_restart_together() -> None:
    service, worker = read_unit("concord.service"), read_unit("concord-worker.service")
    for key in ("User", "DynamicUser", "StateDirectory", "WorkingDirectory", "Environment"):
        assert service["Service"][key] == worker["Service"][key], key
    # Systemd propagates stops and restarts with `PartOf`, and starts with `WantedBy`.
    assert worker["Unit"]["PartOf"] == "concord.service"
    assert "concord.service" in worker["Unit"]["After"].split()
    assert "concord.service" in worker["Install"]["WantedBy"].split()


def test_systemd_is_told_when_the_service_is_ready_and_stops(tmp_path: Path) -> None:
    name = f"concord-{os.getpid()}-{threading.get_ident()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports:
        reports.settimeout(60)
        reports.bind(f"\0{name}")
        with running_server(tmp_path, NOTIFY_SOCKET=f"@{name}", METRICS_PORT="0"):
            assert reports.recv(100).decode() == supervisor.READY
        assert reports.recv(100).decode() == supervisor.STOPPING


def test_compose_uses_settings_that_exist() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    settings = {name.upper() for name in Settings.model_fields}
    for service in ("concord", "worker", "migrate"):
        used = {name.removesuffix("_FILE") for name in services[service]["environment"]}
        assert used <= settings | {"SIGNING_KEY"}
        assert services[service]["read_only"]
        # Pictures are in a volume that all of them share.
        assert services[service]["volumes"] == ["files:/var/lib/concord"]
