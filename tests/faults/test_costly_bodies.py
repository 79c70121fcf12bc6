"""Costly bodies, sent to a real process: refused or served quickly, in flat memory (M6, M10).

Before violations were found one at a time, 13 KB of bad names took a second and 700 MB, and half a
megabyte ended the process.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.faults.live_shop import open_shop
from tests.live import LiveServer, running_server

pytestmark = [pytest.mark.mission("M6"), pytest.mark.mission("M10"), pytest.mark.timeout(120)]

MEGABYTE = 1024 * 1024
SIZES = [13_000, 27_000, 63_000, 500_000]


class Attacked(NamedTuple):
    """A process of its own, a client that may order, and a product."""

    server: LiveServer
    client: httpx.Client
    product: int


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    key, url = folder / "signing-key.pem", f"sqlite:///{folder / 'shop.db'}"
    environment = {"APP_ENV": "test", "SIGNING_KEY_FILE": str(key), "DATABASE_URL": url}
    with running_server(folder, **environment) as server, open_shop(url, key, server.url) as shop:
        user, headers = shop.person()
        product = shop.product(100, user)
        headers |= {"Idempotency-Key": "costly", "Content-Type": "application/json"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            yield Attacked(server, client, product)


def memory(server: LiveServer) -> int:
    """The bytes that the process has had at most."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def processor_seconds(server: LiveServer) -> float:
    """The processor time that the process has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def costly(size: int) -> dict[str, bytes]:
    names = b",".join(b'"!%d":1' % number for number in range(size // 9))
    longest = b",".join(b'"%b%d":""' % (b"n" * 500, number) for number in range(size // 510))
    return {
        "names": b'{"lines":[],"metadata":{%b}}' % names,
        "long names": b'{"lines":[],"metadata":{%b}}' % longest,
        "lines": b'{"lines":[%b]}' % b",".join([b"{}"] * (size // 3)),
        "members": b'{"lines":[{%b}]}' % names,
        "notes": b'{"lines":[],"note":[%b]}' % b",".join([b'""'] * (size // 3)),
    }


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", costly(0))
def test_a_costly_body_is_refused_quickly_for_little_memory(
    attacked: Attacked, shape: str, size: int
) -> None:
    server, client, _ = attacked
    body = costly(size)[shape]
    client.get("/health")
    memory_before, used = memory(server), processor_seconds(server)
    for _ in range(5):
        answer = client.post("/v1/orders", content=body)
        assert answer.status_code == 422, answer.text
        assert 1 <= len(answer.json()["errors"]) <= 50
    # Five requests: 64 KB may take 20 ms each, and the machine may be slow.
    assert processor_seconds(server) - used < 0.5 + size / 250_000
    assert memory(server) - memory_before < 100 * MEGABYTE


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
def test_the_largest_valid_order_costs_little(attacked: Attacked) -> None:
    wide = "\U0001f600"
    order = {
        "lines": [{"product_id": attacked.product, "quantity": 1}],
        "note": wide * 1000,
        "metadata": {f"name{number:036}": wide * 500 for number in range(50)},
    }
    text = json.dumps(order)
    assert len(text) > 300_000
    used = processor_seconds(attacked.server)
    for number in range(5):
        headers = {"Idempotency-Key": f"large-{number}"}
        answer = attacked.client.post("/v1/orders", content=text, headers=headers)
        assert answer.status_code == 201, answer.text
    # Five requests: each may take 100 ms (TRUST 24).
    assert processor_seconds(attacked.server) - used < 0.5


def test_health_is_answered_while_costly_bodies_are_refused(attacked: Attacked) -> None:
    client = attacked.client
    body = costly(63_000)["names"]

    def attack() -> int:
        return client.post("/v1/orders", content=body).status_code

    with ThreadPoolExecutor(8) as pool:
        attacks = [pool.submit(attack) for _ in range(100)]
        began, probes = time.monotonic(), 0
        while not all(each.done() for each in attacks):
            assert client.get("/health").status_code == 200
            probes += 1
        assert time.monotonic() - began < 30
    assert {each.result() for each in attacks} <= {422, 429}
    assert probes > 0
