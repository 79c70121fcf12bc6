"""Compares ASGI servers on this machine: `python tests/bench/servers.py [--rounds N]`.

Each server runs the same small application in one process. They are measured in turns, so that a
busy moment of the machine falls on all, and compared by the median over rounds of the ratio to the
first. CPU is the time of the server's processes alone. Needs `wrk`; a server that is not installed
is left out. It ends by itself after about half a minute a round.
"""

import argparse
import asyncio
import contextlib
import http.client
import importlib.util
import logging
import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.types import Receive, Scope, Send

HOST = "127.0.0.1"
SERVERS = ("concord", "uvicorn", "granian", "hypercorn")
PATHS = ("/inline", "/thread")
CONNECTIONS = (16, 64)
SECONDS = 2
WORK_SECONDS = 200e-6
TICKS = os.sysconf("SC_CLK_TCK")


def turns_of(seconds: float) -> int:
    """How many turns of `work` this machine makes in `seconds`."""
    best = math.inf
    for _ in range(20):
        begun = time.perf_counter()
        work(20_000)
        best = min(best, time.perf_counter() - begun)
    return int(20_000 * seconds / best)


def work(turns: int) -> int:
    """Python work that holds the interpreter."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


class BenchService:
    """`/inline` answers at once, `/thread` after as much Python in a thread as a request runs."""

    def __init__(self) -> None:
        self.draining = threading.Event()
        self._threads = ThreadPoolExecutor(8)
        self._turns = int(os.environ["BENCH_TURNS"])

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Count nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/thread":
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, work, self._turns)
        body = b'{"status": "ok"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"16")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def run_server(name: str, port: int) -> None:
    """Serve with the server called `name` until told to stop."""
    logging.basicConfig(level="WARNING")
    if name == "concord":
        # Imported here, so that each process measured holds its own server alone.
        from api.server.processes.serving import ServerOptions, serve  # noqa: PLC0415 - See above.

        serve(BenchService(), ServerOptions(HOST, port, {}))
    elif name == "uvicorn":
        import uvicorn  # noqa: PLC0415 - See above.

        uvicorn.run(BenchService(), host=HOST, port=port, log_level="error", server_header=False)
    else:
        command = {
            "granian": f"--host {HOST} --port {port} --interface asgi --http 1 --no-ws "
            "--log-level error --factory servers:BenchService",
            "hypercorn": f"--bind {HOST}:{port} --worker-class uvloop --log-level error "
            "servers:BenchService()",
        }[name]
        os.chdir(Path(__file__).parent)
        os.execv(sys.executable, [sys.executable, "-m", name, *command.split()])  # noqa: S606 - A fixed command.


def process_seconds(root: int) -> float:
    """CPU time of a process and its children so far."""
    seconds = 0.0
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / TICKS
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += [int(child) for child in children.read_text().split()]
    return seconds


@contextlib.contextmanager
def running(name: str, turns: int) -> Iterator[tuple[int, int]]:
    """The port and the process id of a server that answers."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and file.
        [sys.executable, __file__, "--serve", name, str(port)],
        env={**os.environ, "PYTHONPATH": root, "BENCH_TURNS": str(turns)},
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(HOST, port, timeout=1)
                connection.request("GET", "/inline")
                connection.getresponse().read()
                connection.close()
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{name} does not answer")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


def measure(wrk: str, port: int, pid: int, path: str, connections: int) -> tuple[float, float]:
    """Requests a second, and microseconds of CPU a request."""
    before = process_seconds(pid)
    url = f"http://{HOST}:{port}{path}"
    load = [wrk, "-t1", f"-c{connections}", f"-d{SECONDS}", url]
    said = subprocess.run(load, capture_output=True, check=True, text=True, timeout=60).stdout  # noqa: S603 - A fixed command.
    spent = process_seconds(pid) - before
    requests = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if requests is None or rate is None or "Non-2xx" in said:
        raise RuntimeError(said)
    return float(rate[1]), spent / int(requests[1]) * 1e6


def compare(wrk: str, rounds: int) -> None:
    """Print one line for each server, path and number of connections."""
    names = [name for name in SERVERS if name == "concord" or importlib.util.find_spec(name)]
    rates: dict[tuple[str, str, int], list[float]] = {}
    costs: dict[tuple[str, str, int], list[float]] = {}
    # Measured once: the work has to be the same for all.
    turns = turns_of(WORK_SECONDS)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(running(name, turns)) for name in names}
        for _ in range(rounds):
            for path in PATHS:
                for connections in CONNECTIONS:
                    for name, (port, pid) in servers.items():
                        rate, cost = measure(wrk, port, pid, path, connections)
                        rates.setdefault((name, path, connections), []).append(rate)
                        costs.setdefault((name, path, connections), []).append(cost)
    print("path     conns  server     requests/s   ratio  CPU µs/request")  # noqa: T201 - This program prints a table.
    for path in PATHS:
        for connections in CONNECTIONS:
            for name in names:
                key = (name, path, connections)
                first = rates[names[0], path, connections]
                ratio = statistics.median(
                    own / other for own, other in zip(rates[key], first, strict=True)
                )
                rate, cost = statistics.median(rates[key]), statistics.median(costs[key])
                row = f"{path:8} {connections:5}  {name:9} {rate:11,.0f} {ratio:7.2f} {cost:15.1f}"
                print(row)  # noqa: T201 - As above.


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", nargs=2, metavar=("SERVER", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        run_server(arguments.serve[0], int(arguments.serve[1]))
        return
    wrk = shutil.which("wrk")
    if wrk is None:
        parser.error("wrk is not installed")
    compare(wrk, arguments.rounds)


if __name__ == "__main__":
    main()
