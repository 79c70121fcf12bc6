"""nginx, HAProxy and Caddy before a server, set up as their manuals say for WebSockets or caching.

Each keeps its connections to the server open and gives them to one client after another, which is
where a request that the server reads and the proxy does not see meets the next client.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.live import HOST, free_port
from tests.tools import find_tool

START_SECONDS = 15.0
_NGINX_START = """
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path $folder/bodies;
    proxy_temp_path $folder/proxied;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
"""
_NGINX = f"""{_NGINX_START}
    map $$http_upgrade $$connection_upgrade {{ default upgrade; '' ''; }}
    upstream service {{ server $host:$upstream; keepalive 8; }}
    server {{
        listen $host:$port;
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Host $$host;
            proxy_set_header X-Forwarded-For $$remote_addr;
            proxy_set_header Upgrade $$http_upgrade;
            proxy_set_header Connection $$connection_upgrade;
        }}
    }}
}}
"""
_NGINX_CACHE = f"""{_NGINX_START}
    proxy_cache_path $folder/cache keys_zone=service:1m;
    server {{
        listen $host:$port;
        location / {{
            proxy_pass http://$host:$upstream;
            proxy_cache service;
            proxy_cache_revalidate on;
            add_header X-Cache $$upstream_cache_status always;
        }}
    }}
}}
"""
_NGINX_STORE = f"""{_NGINX_START}
    server {{
        listen $host:$port;
        sendfile on;
        client_max_body_size 16m;
        location /files/ {{ root $folder; }}
        location /uploads/ {{ root $folder; dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""
_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    option http-keep-alive
    http-reuse always
frontend clients
    bind $host:$port
    default_backend service
backend service
    option forwardfor
    server only $host:$upstream
"""
_CADDY = """
{
    admin off
    auto_https off
}
http://:$port {
    bind $host
    reverse_proxy $host:$upstream
}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy's configuration, and the arguments that make it read the file `{}`."""

    name: str
    configuration: str
    arguments: tuple[str, ...]


_NGINX_ARGUMENTS = ("-e", "stderr", "-c", "{}")
PROXIES = (
    Proxy("nginx", _NGINX, _NGINX_ARGUMENTS),
    Proxy("haproxy", _HAPROXY, ("-db", "-f", "{}")),
    Proxy("caddy", _CADDY, ("run", "--adapter", "caddyfile", "--config", "{}")),
)
COMPRESSING = (
    Proxy(
        "nginx",
        _NGINX.replace("listen ", "gzip on; gzip_min_length 1; gzip_proxied any;\n        listen "),
        _NGINX_ARGUMENTS,
    ),
    Proxy(
        "haproxy",
        _HAPROXY + "    compression algo gzip\n    compression type application/json\n",
        PROXIES[1].arguments,
    ),
    Proxy(
        "caddy",
        _CADDY.replace("    bind", "    encode gzip {\n        minimum_length 1\n    }\n    bind"),
        PROXIES[2].arguments,
    ),
)
"""The same, compressing: nginx its default media types, and the others JSON, too."""
CACHE = Proxy("nginx", _NGINX_CACHE, _NGINX_ARGUMENTS)
"""nginx as a shared cache that follows `Cache-Control`; `X-Cache` says what it did."""
STORE = Proxy("nginx", _NGINX_STORE, _NGINX_ARGUMENTS)
"""nginx as a server of the files that the service stores, to which clients may also upload."""


@contextmanager
def running_proxy(proxy: Proxy, upstream: int, folder: Path) -> Iterator[int]:
    """Run a proxy before the server on port `upstream`, and return its own port.

    Without the proxy's program the test is skipped, or fails if CI is set to "true".
    """
    program = find_tool(proxy.name)
    port = free_port()
    configuration = folder / f"{proxy.name}.conf"
    text = Template(proxy.configuration)
    configuration.write_text(
        text.substitute(folder=folder, host=HOST, port=port, upstream=upstream)
    )
    log = folder / f"{proxy.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - The program was looked up, the file is ours.
            [program, *(each.format(configuration) for each in proxy.arguments)],
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_listening(port, process, log)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a process listens on a port; it logs to a file."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        else:
            return
