"""The configurations of proxies in `deploy/`, and a client that also sends what they reject."""

import socket
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

from tests.faults.proxies import PROXIES, Proxy
from tests.live import HOST
from tests.tools import find_tool

EXAMPLES = Path(__file__).parents[2] / "deploy" / "proxies"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}


def make_certificate(folder: Path) -> Path:
    """Make a certificate for localhost and its key, apart and together; return their folder."""
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
    text = (EXAMPLES / FILES[name]).read_text().replace("$", "$$")
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
