"""Concord beside what people would pick instead: `python tests/bench/compare.py`, or `make bench`.

Every peer is one file in tests/bench/peers, on the same rows, and writes the same rows. The tuned
ones share `tuned.py`, and the others follow their documentation. First, their responses are
compared with Concord's; a difference ends the bench. Then `wrk` sends requests to each in turn, so
that a busy moment of the machine affects all of them. The results are medians over rounds of the
ratios within a round. The server has one core; wrk and PostgreSQL share the other.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from api.credentials.signing import KeyRing
from tests.bench import equality, goals
from tests.bench.chart import draw
from tests.bench.cluster import postgresql
from tests.bench.contenders import (
    CONTENDERS,
    NODE,
    Contender,
    Running,
    memory,
    peak_memory,
    running,
)
from tests.bench.load import Wrk
from tests.bench.operations import OPERATIONS, MeasuredOperation
from tests.bench.results import Note, Results
from tests.bench.seeding import Shop, fill
from tests.bench.telling import say

CONNECTIONS = (16, 64)
SECONDS = 2
"""Seconds of a turn, which begins with new connections and lookups of all sessions. These would
distort a turn of one second."""
FOLDER = ROOT / "var" / "bench" / "compare"
LONGEST = 50 * 60
"""Seconds of load at the most: the tokens are good for an hour."""
LOAD_CORE, SERVER_CORE = 0, 1
WARM_SECONDS = 1

Servers = Mapping[tuple[str, str], Running]
"""Who serves, by name and kind of database."""


def compare(
    wrk: Wrk,
    servers: Servers,
    contenders: Sequence[Contender],
    operations: Sequence[MeasuredOperation],
    arguments: argparse.Namespace,
) -> Results:
    """Measure everything in turns."""
    results = Results(contenders, operations, arguments.connections)
    turns = list(_turns(contenders, operations, arguments))
    for operation, contender in {(turn[0], turn[1]): None for turn in turns}:
        server = servers[contender.name, operation.database]
        wrk.measure(server, operation, arguments.connections[-1], WARM_SECONDS)
    for operation, contender, connections in tqdm(turns, unit=" turns", disable=None):
        server = servers[contender.name, operation.database]
        measured = wrk.measure(server, operation, connections, arguments.seconds)
        results.add(contender, operation, connections, measured)
    return results


def _turns(
    contenders: Sequence[Contender],
    operations: Sequence[MeasuredOperation],
    arguments: argparse.Namespace,
) -> Iterator[tuple[MeasuredOperation, Contender, int]]:
    for _ in range(arguments.rounds):
        for operation in operations:
            for connections in arguments.connections:
                for contender in contenders:
                    validates = contender.validates or not operation.is_rejected
                    if validates and operation.database in contender.databases:
                        yield operation, contender, connections


@contextlib.contextmanager
def serving(contenders: Sequence[Contender], shops: Mapping[str, Shop]) -> Iterator[Servers]:
    """Start everybody, on every database."""
    with contextlib.ExitStack() as stack:
        servers: dict[tuple[str, str], Running] = {}
        for kind, shop in shops.items():
            for contender in contenders:
                if kind not in contender.databases:
                    continue
                log = FOLDER / f"{contender.name}-{kind}.log"
                server = running(contender, shop, cores=str(SERVER_CORE), log=log)
                servers[contender.name, kind] = stack.enter_context(server)
        yield servers


def check(
    servers: Servers,
    contenders: Sequence[Contender],
    operations: Sequence[MeasuredOperation],
    shops: Mapping[str, Shop],
) -> None:
    """Compare the answers of all.

    Raises:
        equality.Different: one has another answer.
    """
    for kind, shop in shops.items():
        of_kind = [each for each in operations if each.database == kind]
        concord, *peers = (
            servers[contender.name, kind] for contender in contenders if kind in contender.databases
        )
        equality.compare(concord, peers, of_kind, shop)
        for operation in of_kind:
            if operation.name != "health":
                for server in (concord, *peers):
                    equality.refuses_strangers(server, operation, shop)
        equality.refuses_ended_sessions((concord, *peers), shop)
        say(f"{kind}: {len(peers)} peers answer as Concord does, in {len(of_kind)} operations")


def prepare(folder: Path, server_url: str | None) -> Mapping[str, Shop]:
    """Make the databases anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    key_file = folder / "signing-key.pem"
    KeyRing.load(key_file, create=True)
    urls = {"sqlite": f"sqlite:///{folder / 'shop.db'}"}
    if server_url is not None:
        urls["postgresql"] = server_url
    for url in urls.values():
        fill(url)
    return {kind: Shop(url, key_file) for kind, url in urls.items()}


def main() -> None:
    """Read the command line."""
    arguments = _parser().parse_args()
    command = shutil.which("wrk")
    if command is None:
        raise SystemExit("wrk is not installed: on Debian and Ubuntu, apt-get install wrk")
    if len(os.sched_getaffinity(0)) <= SERVER_CORE:
        raise SystemExit("the bench needs two cores: one for the load and one for the server")
    contenders = choose(arguments.only)
    wanted = [each for each in OPERATIONS if fnmatch(each.name, arguments.operations)]
    turns = arguments.rounds * len(wanted) * len(arguments.connections) * len(contenders)
    if turns * (arguments.seconds + 0.2) > LONGEST:
        raise SystemExit("this would take longer than tokens are good for: fewer rounds or seconds")
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgresql(LOAD_CORE))
        if url is None:
            say("PostgreSQL is not installed: its operations are left out")
        shops = prepare(FOLDER, url)
        operations = [each for each in wanted if each.database in shops]
        wrk = Wrk(command, LOAD_CORE, FOLDER)
        for operation in operations:
            wrk.prepare(operation, shops[operation.database])
        servers = stack.enter_context(serving(contenders, shops))
        check(servers, contenders, operations, shops)
        results = compare(wrk, servers, contenders, operations, arguments)
        for contender in contenders:
            server = servers[contender.name, "sqlite"]
            results.notes[contender.name] = Note(
                server.start_seconds, peak_memory(server.pid), memory(server.pid)
            )
    results.write(arguments.json)
    say(results.table())
    for line in goals.report(goals.read(arguments.json)):
        say(line)
    if arguments.chart is not None:
        draw(results, arguments.chart)
    say(f"{time.monotonic() - begun:.0f} seconds; written to {arguments.json}")


def choose(only: str | None) -> Sequence[Contender]:
    names = ["concord", *only.split(",")] if only else [each.name for each in CONTENDERS]
    if only is None and not (NODE / "node_modules").exists():
        say("the packages of Node.js are not installed: its peer is left out")
        names.remove("fastify")
    unknown = set(names) - {each.name for each in CONTENDERS}
    if unknown:
        raise SystemExit(f"there is no {', '.join(sorted(unknown))}")
    return [each for each in CONTENDERS if each.name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="seconds of a turn (2)")
    parser.add_argument("--only", help="peers beside Concord, separated by commas")
    parser.add_argument("--operations", default="*", help="a pattern of their names, such as user*")
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench" / "compare.json")
    parser.add_argument("--chart", type=Path, help="where to draw to, without .svg and .png")
    return parser


if __name__ == "__main__":
    main()
