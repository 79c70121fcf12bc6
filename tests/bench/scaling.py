"""How costs grow: `python tests/bench/scaling.py [--requests N]`.

Measures requests a second on both databases by number of processes; processor time in-process by
number of operations in the contract and by size of the body; orders placed by number of
connections; the time to start, beside stock connexion with as many operations; and memory over
many requests. `depth.py` measures the depth of pages.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import json
import logging
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stderr
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from api.server.settings import Settings
from tests.bench.calling import AsgiApp, Call, asgi, repeat
from tests.bench.cluster import postgresql
from tests.bench.compare import LOAD_CORE, SERVER_CORE, prepare
from tests.bench.contenders import (
    CONTENDERS,
    Contender,
    Running,
    environment,
    memory,
    running,
)
from tests.bench.generated import make_application
from tests.bench.load import Measurement, Wrk
from tests.bench.operations import OPERATIONS, MeasuredOperation, Request
from tests.bench.seeding import Shop
from tests.bench.telling import machine, say

FOLDER = ROOT / "var" / "bench" / "scaling"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
CONTRACTS = (10, 100, 1_000)
CONNECTIONS = 16
CROWDS = (64, 500)
CROWD_SECONDS = 5
"""So long that every connection of the largest crowd has a turn."""
SIXTY = Contender("connexion", "connexion[flask]", "asgi", "connexion_sixty")
GROWTH_SECONDS = 300.0
_JSON = ("Content-Type", "application/json")


def routing(shop: Shop, rounds: int) -> Mapping[int, Sequence[float]]:
    """Microseconds a request with so many operations in the contract, by round."""
    with ExitStack() as stack:
        calls = {each: stack.enter_context(asgi(_application(shop, each))) for each in CONTRACTS}

        def ask(operations: int) -> float:
            # Operations from all over the contract.
            step = max(1, operations // 10)
            paths = [
                f"/v1/bench/{number}/things/{number}?limit=7"
                for number in range(1, operations, step)
            ]
            return repeat(calls[operations], [Request("GET", path) for path in paths], 300)

        return _in_turns(CONTRACTS, ask, rounds)


def bodies(shop: Shop, rounds: int) -> Mapping[int, Sequence[float]]:
    """Microseconds a request with a body of so many bytes, by round."""
    with asgi(_application(shop, CONTRACTS[0])) as call:
        return _in_turns(SIZES, lambda size: _send(call, size), rounds)


def _send(call: Call, size: int) -> float:
    item = {"id": 7, "name": "x" * 60, "price": {"amount": 1999, "currency": "EUR"}}
    count = max(1, size // (len(json.dumps(item)) + 2))
    body = json.dumps({"items": [item] * count}).encode()
    request = Request("POST", "/v1/bench/bodies", (_JSON,), body)
    return repeat(call, [request], max(3, 200_000 // size))


def _application(shop: Shop, operations: int) -> AsgiApp:
    folder = FOLDER / f"contract-{operations}"
    settings = Settings.from_environment(environment(shop, 8080))
    # Its log is written, as it always is, to where nobody has to read it.
    with redirect_stderr(Path(os.devnull).open("w")):
        return make_application(folder, operations, settings)


def _in_turns(
    keys: Sequence[int], measure: Callable[[int], float], rounds: int
) -> Mapping[int, Sequence[float]]:
    taken: dict[int, list[float]] = {key: [] for key in keys}
    for turn in range(-1, rounds):
        for key in keys:
            one = measure(key)
            # The first turn is for caches to fill.
            if turn >= 0:
                taken[key].append(one)
    return taken


def processes(
    wrk: Wrk, shops: Mapping[str, Shop], rounds: int, seconds: int
) -> Mapping[str, Sequence[Measurement]]:
    """The load on one and on two processes, by operation, by round."""
    operations = [
        each
        for each in OPERATIONS
        if each.database in shops and not (each.is_rare or each.is_rejected)
    ]
    both = f"{LOAD_CORE},{SERVER_CORE}"
    taken: dict[str, list[Measurement]] = {}
    with ExitStack() as stack:
        servers = {
            (kind, count): stack.enter_context(
                _serving(shop, f"{count}-processes-{kind}", both, workers=count)
            )
            for kind, shop in shops.items()
            for count in (1, 2)
        }
        for operation in operations:
            wrk.prepare(operation, shops[operation.database])
        for turn in range(-1, rounds):
            for operation in operations:
                for count in (1, 2):
                    server = servers[operation.database, count]
                    measured = wrk.measure(server, operation, CONNECTIONS, seconds)
                    if turn >= 0:
                        taken.setdefault(f"{operation.name} {count}", []).append(measured)
    return taken


def crowds(wrk: Wrk, shop: Shop, rounds: int, seconds: int) -> Mapping[int, Sequence[float]]:
    """Orders placed a second, by number of connections, by round."""
    create = next(each for each in OPERATIONS if each.name == "create")
    wrk.prepare(create, shop)
    with _serving(shop, "crowds", str(SERVER_CORE)) as server:

        def place(connections: int) -> float:
            measured = wrk.measure(server, create, connections, seconds)
            return measured.rate * (1 - measured.failed / max(measured.requests, 1))

        return _in_turns(CROWDS, place, rounds)


def starts(shop: Shop, rounds: int) -> Mapping[str, Sequence[float]]:
    """Seconds from the start of the process to the first answer, by contender, by round."""
    taken: dict[str, list[float]] = {}
    for turn in range(-1, rounds):
        for contender in (CONTENDERS[0], SIXTY):
            log = FOLDER / f"start-{contender.name}.log"
            with running(contender, shop, cores=str(SERVER_CORE), log=log) as server:
                # The first turn is for files to be read and compiled.
                if turn >= 0:
                    taken.setdefault(contender.name, []).append(server.start_seconds)
    return taken


def growth(wrk: Wrk, shop: Shop, requests: int) -> Iterator[tuple[int, int]]:
    """Bytes in memory after so many requests of all kinds: none, a tenth of `requests`, and so on.

    It ends before all are done when the time for them is over.
    """
    deadline = time.monotonic() + GROWTH_SECONDS
    with _serving(shop, "growth", str(SERVER_CORE)) as server:
        operations = [each for each in OPERATIONS if each.database == "sqlite" and not each.is_rare]
        for operation in operations:
            wrk.prepare(operation, shop)
        done = 0
        for step in range(11):
            while done < requests * step // 10:
                if time.monotonic() > deadline:
                    return
                done += sum(_some(wrk, server, operation) for operation in operations)
            yield done, memory(server.pid)


def _some(wrk: Wrk, server: Running, operation: MeasuredOperation) -> int:
    measured = wrk.measure(server, operation, CONNECTIONS, 1)
    if measured.failed:
        raise RuntimeError(f"{measured.failed} requests failed: {operation.title}")
    return measured.requests


def _serving(
    shop: Shop, name: str, cores: str, workers: int = 1
) -> AbstractContextManager[Running]:
    return running(CONTENDERS[0], shop, cores=cores, log=FOLDER / f"{name}.log", workers=workers)


def _tell(title: str, unit: str, taken: Mapping[int, Sequence[float]]) -> None:
    say(f"\n| {title} | {unit} | to the first |\n|---|---|---|")
    first = next(iter(taken.values()))
    for key, own in taken.items():
        ratio = statistics.median(mine / other for mine, other in zip(own, first, strict=True))
        say(f"| {key:,} | {statistics.median(own):,.0f} | {ratio:.2f} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=100_000, help="for the memory (100,000)")
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench" / "scaling.json")
    arguments = parser.parse_args()
    command = shutil.which("wrk")
    if command is None:
        raise SystemExit("wrk is not installed: on Debian and Ubuntu, apt-get install wrk")
    logging.disable()
    wrk = Wrk(command, LOAD_CORE, FOLDER)
    say(f"Scaling of Concord on {machine()}")
    with postgresql(LOAD_CORE) as url:
        shops = prepare(FOLDER, url)
        by_processes = processes(wrk, shops, arguments.rounds, arguments.seconds)
    say("\n| operation and processes | requests/s | p99, ms |\n|---|---|---|")
    for name, turns in by_processes.items():
        rate = statistics.median(turn.rate for turn in turns)
        p99 = statistics.median(turn.p99 for turn in turns)
        say(f"| {name} | {rate:,.0f} | {p99:.1f} |")
    shop = shops["sqlite"]
    by_operations = routing(shop, arguments.rounds)
    _tell("operations in the contract", "CPU µs a request", by_operations)
    by_size = bodies(shop, arguments.rounds)
    _tell("bytes of a body", "CPU µs a request", by_size)
    by_crowd = crowds(wrk, shop, arguments.rounds, max(arguments.seconds, CROWD_SECONDS))
    _tell("connections", "orders/s", by_crowd)
    by_contender = starts(shop, arguments.rounds)
    say("\n| with about 60 operations | start to first answer, s |\n|---|---|")
    for name, seconds in by_contender.items():
        say(f"| {name} | {statistics.median(seconds):.2f} |")
    say("\n| requests | memory, MB |\n|---|---|")
    grown = []
    for done, size in growth(wrk, shop, arguments.requests):
        grown.append((done, size))
        say(f"| {done:,} | {size / 1e6:.1f} |")
    if len(grown) > 2:
        # At the first tenth its threads and pools are there, and what is cached is in the cache.
        (few, before), (many, after) = grown[1], grown[-1]
        change = f"{(after - before) / 1e6:+.1f} MB ({after / before - 1:+.1%})"
        say(f"\nFrom {few:,} requests to {many:,} memory changed by {change}.")
    results = {
        "date": datetime.now(UTC).isoformat(),
        "machine": machine(),
        "operations": by_operations,
        "bodies": by_size,
        "processes": {
            name: [turn.as_dict() for turn in turns] for name, turns in by_processes.items()
        },
        "crowds": by_crowd,
        "starts": by_contender,
        "memory": grown,
    }
    arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
