"""What is compared, and how each of it is started, watched and stopped."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.bench.seeding import ISSUER, Shop

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
THREADS = 8
"""Threads of servers that are told how many they have: as many as Concord takes by itself."""
NODE = ROOT / "tests" / "bench" / "peers" / "node"
START_SECONDS = 60.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A service in one file, `module`, behind the server that its documentation recommends."""

    name: str
    title: str
    kind: Literal["concord", "asgi", "wsgi", "node"]
    module: str = ""
    validates: bool = True
    databases: tuple[str, ...] = ("sqlite", "postgresql")

    def command(self, port: int, workers: int) -> Sequence[str]:
        """What serves it on a port of this machine."""
        if self.kind == "concord":
            return [sys.executable, "app.py", "serve"]
        if self.kind == "node":
            return ["node", str(NODE / self.module)]
        app = f"tests.bench.peers.{self.module}:app"
        if self.kind == "asgi":
            server = f"uvicorn {app} --host {HOST} --port {port} --loop uvloop --http httptools"
            return [sys.executable, "-m", *server.split(), "--workers", str(workers)]
        server = f"gunicorn {app} --bind {HOST}:{port} --worker-class gthread --threads {THREADS}"
        # Connections of the load stay open from one request to the next, as with the other servers.
        kept = ["--workers", str(workers), "--keep-alive", "75"]
        return [sys.executable, "-m", *server.split(), *kept]


CONTENDERS = (
    Contender("concord", "Concord", "concord"),
    Contender("connexion", "connexion[flask]", "asgi", "connexion_stock"),
    Contender("fastapi", "FastAPI, sync", "asgi", "fastapi_sync"),
    Contender("fastapi-async", "FastAPI, async", "asgi", "fastapi_async"),
    Contender("litestar", "Litestar, sync", "asgi", "litestar_msgspec"),
    Contender("litestar-async", "Litestar, async", "asgi", "litestar_async"),
    Contender("fastapi-tuned", "FastAPI, tuned", "asgi", "fastapi_core"),
    Contender("litestar-tuned", "Litestar, tuned", "asgi", "litestar_core"),
    Contender("asgi-tuned", "bare ASGI, tuned", "asgi", "asgi_core"),
    Contender("asgi-drivers", "bare ASGI, drivers", "asgi", "asgi_drivers"),
    Contender("fastify", "fastify, tuned", "node", "server.mjs", databases=("sqlite",)),
    Contender("flask-smorest", "flask-smorest", "wsgi", "flask_smorest_marshmallow"),
    Contender("django-ninja", "django-ninja", "wsgi", "django_ninja"),
    Contender("flask", "Flask by hand", "wsgi", "flask_plain", validates=False),
)


def environment(shop: Shop, port: int, workers: int = 1) -> Mapping[str, str]:
    """Settings of Concord and of the peers: production, on the same data and tokens."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "BENCH_DATABASE_URL": shop.url,
        "BENCH_ISSUER": ISSUER,
        "BENCH_SIGNING_KEY_FILE": str(shop.key_file),
        "APP_ENV": "production",
        "HOST": HOST,
        "PORT": str(port),
        "DATABASE_URL": shop.url,
        "SIGNING_KEY_FILE": str(shop.key_file),
        "PUBLIC_URL": ISSUER,
        "WORKERS": str(workers),
        "THREADS": str(THREADS),
        "METRICS_PORT": "0",
        "DRAIN_SECONDS": "0",
        # As long as the peers': none is to expire while the bench runs.
        "RESERVATION_SECONDS": str(30 * 24 * 3600),
    }


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    contender: Contender
    port: int
    pid: int
    start_seconds: float
    """From the start of the process to the first answer."""


@contextlib.contextmanager
def running(
    contender: Contender, shop: Shop, *, cores: str, log: Path, workers: int = 1
) -> Iterator[Running]:
    """Serve a contender on some cores while the block runs.

    Raises:
        RuntimeError: it does not answer; the end of its log is in the message.
    """
    port = _free_port()
    command = ["taskset", "--cpu-list", cores, *contender.command(port, workers)]
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - Commands of our own.
            command,
            cwd=ROOT,
            env=environment(shop, port, workers),
            # Whatever is logged is written to a file, by all.
            stdout=output,
            stderr=output,
            # Its processes are a group, which is ended as a whole if it does not end by itself.
            start_new_session=True,
        )
        try:
            _wait(process, port)
            seconds = time.perf_counter() - begun
            yield Running(contender, port, process.pid, seconds)
        except _Silent:
            said = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{contender.name} does not answer:\n{said}") from None
        finally:
            _stop(process)


class _Silent(Exception):
    """A server that ended, or has not answered in time."""


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(HOST, port, timeout=2)
            connection.request("GET", "/health")
            status = connection.getresponse().status
            connection.close()
            if status == http.HTTPStatus.OK:
                return
        time.sleep(0.005)
    raise _Silent


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # What it started and left behind; the group is its own.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def peak_memory(root: int) -> int:
    """Bytes that a process and its children had at the most (the peaks of their resident sets)."""
    return sum(_status(pid, "VmHWM") for pid in family(root))


def memory(root: int) -> int:
    """Bytes that a process and its children have in memory now."""
    return sum(_status(pid, "VmRSS") for pid in family(root))


def family(root: int) -> Iterator[int]:
    """A process and all that it started."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += [int(child) for child in children.read_text().split()]
            yield pid


def _status(pid: int, name: str) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
