"""Files through Concord and nginx: `python tests/bench/files.py [--rounds N]`.

The same file is downloaded from both, and the same bytes are uploaded to both, in turns, so that a
busy moment of the machine falls on both. CPU is the time of the server's process alone. Concord
refuses the upload once it has arrived, because it is no picture: decoding is not measured here.
Then 200 clients ask for the file and read nothing while another reads a product. Needs nginx. It
ends by itself after about a minute.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import http.client
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.telling import machine, say
from tests.faults.live_shop import open_shop
from tests.faults.proxies import STORE, running_proxy
from tests.live import HOST, running_server
from tests.pictures import make_noise

TICKS = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1_000_000
DOWNLOADS, UPLOADS = 60, 15
UPLOAD = bytes(10 * MEGABYTE)
SLOW = 200
READS = 400


class Target(NamedTuple):
    """A server, what is read from and written to it, and the headers of uploads."""

    name: str
    pid: int
    port: int
    download: str
    upload: str
    headers: dict[str, str]


def processor_seconds(pid: int) -> float:
    """The processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def download(target: Target) -> int:
    """Download the file some times over one connection; return the bytes."""
    connection = http.client.HTTPConnection(HOST, target.port)
    total, buffer = 0, bytearray(MEGABYTE)
    for _ in range(DOWNLOADS):
        connection.request("GET", target.download)
        response = connection.getresponse()
        while count := response.readinto(buffer):
            total += count
    connection.close()
    return total


def upload(target: Target) -> int:
    """Upload bytes some times; return their number."""
    connection = http.client.HTTPConnection(HOST, target.port)
    for _ in range(UPLOADS):
        connection.request("PUT", target.upload, UPLOAD, target.headers)
        response = connection.getresponse()
        response.read()
        if response.status not in (201, 204, 422):
            raise SystemExit(f"{target.name} answered {response.status}")
    connection.close()
    return UPLOADS * len(UPLOAD)


def measure(work: Callable[[Target], int], targets: list[Target], rounds: int) -> None:
    """Print MB/s and CPU seconds for each GB, as medians."""
    speeds: dict[str, list[float]] = {each.name: [] for each in targets}
    costs: dict[str, list[float]] = {each.name: [] for each in targets}
    for _ in range(rounds):
        for target in targets:
            used, begun = processor_seconds(target.pid), time.perf_counter()
            size = work(target) / MEGABYTE
            speeds[target.name].append(size / (time.perf_counter() - begun))
            costs[target.name].append((processor_seconds(target.pid) - used) / size * 1000)
    for name, found in speeds.items():
        speed, cost = statistics.median(found), statistics.median(costs[name])
        say(f"{work.__name__:9} {name:8} {speed:6.0f} MB/s {cost:6.2f} s of CPU for each GB")


@contextmanager
def slow_clients(target: Target) -> Iterator[None]:
    """Have clients that ask for the file and read nothing."""
    with ExitStack() as stack:
        for _ in range(SLOW):
            peer = stack.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect((HOST, target.port))
            peer.sendall(f"GET {target.download} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            peer.recv(1024)
        yield


def read_times(client: httpx.Client, path: str) -> list[float]:
    """Read something again and again; return the milliseconds, from the shortest."""
    times = []
    for number in range(READS):
        # No limit counts an address twice.
        address = {"X-Forwarded-For": f"10.0.{number // 250}.{number % 250}"}
        begun = time.perf_counter()
        client.get(path, headers=address).raise_for_status()
        times.append((time.perf_counter() - begun) * 1000)
    return sorted(times)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    say(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key, url = folder / "key.pem", f"sqlite:///{folder / 'shop.db'}"
        environment = {"APP_ENV": "test", "SIGNING_KEY_FILE": str(key), "DATABASE_URL": url}
        environment["TRUSTED_PROXIES"] = HOST
        with (
            running_server(folder, **environment) as server,
            open_shop(url, key, server.url) as shop,
            running_proxy(STORE, server.port, folder) as port,
            httpx.Client(base_url=server.url) as client,
        ):
            user, bearer = shop.person(admin=True)
            headers = bearer | {"Content-Type": "image/png"}
            path = f"/v1/products/{shop.product(1, user)}"
            image = f"{path}/images/1"
            stored = client.put(image, content=make_noise((2048, 2048)), headers=headers)
            file = stored.raise_for_status().json()["images"][0]["original"]
            nginx = int((folder / "nginx.pid").read_text())
            targets = [
                Target("nginx", nginx, port, f"/files/{file['path']}", "/uploads/a", {}),
                Target("concord", server.process.pid, server.port, file["url"], image, headers),
            ]
            say(f"a file of {len(client.get(file['url']).content) / MEGABYTE:.1f} MB")
            measure(download, targets, rounds)
            measure(upload, targets, rounds)
            alone = read_times(client, path)
            with slow_clients(targets[1]):
                beside = read_times(client, path)
            for title, times in (("alone", alone), (f"beside {SLOW} slow downloads", beside)):
                middle, high = times[READS // 2], times[READS * 99 // 100]
                say(f"a product {title}: median {middle:.2f} ms, 99th percentile {high:.2f} ms")


if __name__ == "__main__":
    main()
