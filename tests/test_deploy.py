"""The files of `deploy/`: units, images and proxies, tried with the programs that read them."""

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from api.server.processes import supervisor
from api.server.settings import Settings
from tests.faults.proxies import PROXIES, Proxy, running_proxy
from tests.live import HOST, free_port, running_server
from tests.test_docs import README, follow_tour, tour
from tests.tools import find_tool

DEPLOY = Path(__file__).parents[1] / "deploy"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
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


def example(name: str, certificate: Path) -> Proxy:
    """The example of a proxy, with ports and files of the test in place of those of a machine."""
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
        "127.0.0.1:8081": "$host:$upstream",
        "listen 443": "listen $host:$port",
        "bind :443": "bind $host:$port",
        "/etc/concord/tls": str(certificate),
        "/etc/concord/proxies": str(DEPLOY / "proxies"),
        "{$$CONCORD_HOST:api.example.com}": "{\n\tadmin off\n\tauto_https off\n}\n"
        f"https://localhost:$port, https://{HOST}:$port",
        "\treverse_proxy": f"\ttls {certificate}/certificate.pem {certificate}/key.pem\n"
        "\treverse_proxy",
        "{$$CONCORD_UPSTREAM:$host:$upstream $host:$upstream}": "$host:$upstream",
    }
    for place, value in places.items():
        text = text.replace(place, value)
    return Proxy(name, text, known.arguments)


@contextmanager
def client(certificate: Path, port: int) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(certificate / "certificate.pem"))
    with httpx.Client(verify=context, base_url=f"https://localhost:{port}") as client:
        yield client


@pytest.mark.parametrize("name", FILES)
def test_a_proxy_without_replicas_sends_a_problem(
    name: str, certificate: Path, tmp_path: Path
) -> None:
    with (
        running_proxy(example(name, certificate), free_port(), tmp_path) as port,
        client(certificate, port) as tls,
    ):
        answer = tls.get("/v1/products", timeout=10)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["type"] == "/problems/overloaded"
    assert answer.json()["status"] == 503


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
                if name == "nginx":
                    trusted = {"CURL_CA_BUNDLE": str(certificate / "certificate.pem")}
                    url = f"https://localhost:{port}"
                    printed = follow_tour(tour(README), url, tmp_path, trusted)
                    assert '"name":"Mary Shelley"' in printed[0]


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
