"""Processor time of a request without a network: `python tests/bench/in_process.py [--rounds N]`.

Each application is called in a process of its own, one request after the other, in rounds that take
turns. It is the time of all its threads, so neither a busy machine nor the server in front of the
application has a part in it. Instructions are counted too where `perf` may count them.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import contextlib
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.cluster import postgresql
from tests.bench.compare import LOAD_CORE, SERVER_CORE, choose, prepare
from tests.bench.contenders import Contender, environment
from tests.bench.operations import OPERATIONS, MeasuredOperation
from tests.bench.seeding import Shop
from tests.bench.telling import machine, say

FOLDER = ROOT / "var" / "bench" / "in-process"
TIMES: Mapping[str, int] = {"health": 300, "user": 100, "rejected": 100}
"""Requests in a turn, by kind; all other kinds have `FEW`."""
FEW = 30
EVENT = "instructions"
_ATTACH_SECONDS = 0.2
_CALLING = Path(__file__).with_name("calling.py")


class Application:
    """A contender in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def repeat(self, operation: MeasuredOperation, times: int) -> float:
        """Microseconds of processor time a request.

        Raises:
            RuntimeError: the process ended; the end of its log is in the message.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{operation.name} {times}\n")
            self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError(self._log.read_text()[-2000:])
        return float(said)

    def count(self, operation: MeasuredOperation, times: int) -> float:
        """How often `perf` sees its event in a request, in all threads of the process.

        Raises:
            RuntimeError: as in `repeat`.
        """
        command = ["perf", "stat", "-x,", "-e", EVENT, "-p", str(self._process.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as perf:  # noqa: S603 - A fixed command.
            try:
                time.sleep(_ATTACH_SECONDS)
                self.repeat(operation, times)
            finally:
                perf.send_signal(signal.SIGINT)
            _, said = perf.communicate(timeout=10)
        return float(said.partition(",")[0]) / times


@contextlib.contextmanager
def calling(contender: Contender, kind: str, shop: Shop) -> Iterator[Application]:
    """Run a contender while the block runs."""
    command = ["taskset", "--cpu-list", str(SERVER_CORE), sys.executable, str(_CALLING)]
    log = FOLDER / f"{contender.name}-{kind}.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(  # noqa: S603 - Our own interpreter and file.
            [*command, contender.name, kind],
            env=environment(shop, 8080),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Application(process, log)
        finally:
            if process.stdin is not None:
                # It ends with its input.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


Taken = Mapping[str, Mapping[str, Sequence[float]]]
"""Numbers by operation, contender and round."""


def measure(
    contenders: Sequence[Contender],
    operations: Sequence[MeasuredOperation],
    shops: Mapping[str, Shop],
    rounds: int,
    *,
    counted: bool,
) -> tuple[Taken, Taken]:
    """Microseconds, and if they are `counted` instructions: these in one round, for they repeat."""
    taken: dict[str, dict[str, list[float]]] = {each.name: {} for each in operations}
    counts: dict[str, dict[str, list[float]]] = {each.name: {} for each in operations}
    for kind, shop in shops.items():
        of_kind = [each for each in operations if each.database == kind]
        with contextlib.ExitStack() as stack:
            applications = {
                each: stack.enter_context(calling(each, kind, shop)) for each in contenders
            }
            for turn in range(-1, rounds):
                for operation in of_kind:
                    for contender, application in applications.items():
                        if operation.is_rejected and not contender.validates:
                            continue
                        times = TIMES.get(operation.kind, FEW)
                        one = application.repeat(operation, times)
                        # The first turn is for caches to fill.
                        if turn >= 0:
                            taken[operation.name].setdefault(contender.name, []).append(one)
                        elif counted:
                            count = application.count(operation, times)
                            counts[operation.name][contender.name] = [count]
    return taken, counts


def table(
    contenders: Sequence[Contender],
    operations: Sequence[MeasuredOperation],
    taken: Taken,
    title: str,
) -> Iterator[str]:
    """The medians as Markdown, with the medians of ratios to Concord in brackets."""
    yield f"\n{title}, without a network, on {machine()}\n"
    yield f"| | {' | '.join(each.title for each in operations)} |"
    yield "|---" * (len(operations) + 1) + "|"
    for contender in contenders:
        cells = []
        for operation in operations:
            theirs = taken[operation.name].get(contender.name)
            if theirs is None:
                cells.append("-")
                continue
            ours = taken[operation.name][contenders[0].name]
            pairs = zip(theirs, ours, strict=True)
            ratio = statistics.median(their / our for their, our in pairs)
            cells.append(f"{statistics.median(theirs):.0f} ({ratio:.2f})")
        yield f"| {contender.title} | {' | '.join(cells)} |"


def can_count() -> bool:
    """Whether this machine lets `perf` count instructions: many virtual ones do not."""
    perf = shutil.which("perf")
    if perf is None:
        return False
    said = subprocess.run(  # noqa: S603 - A fixed command.
        [perf, "stat", "-x,", "-e", EVENT, "true"],
        capture_output=True,
        check=False,
        text=True,
        timeout=10,
    )
    return said.returncode == 0 and said.stderr.partition(",")[0].replace(".", "").isdecimal()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", help="peers beside Concord, separated by commas")
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench" / "in-process.json")
    arguments = parser.parse_args()
    contenders = [each for each in choose(arguments.only) if each.kind != "node"]
    counted = can_count()
    with postgresql(LOAD_CORE) as url:
        shops = prepare(FOLDER, url)
        operations = [each for each in OPERATIONS if each.database in shops]
        taken, counts = measure(contenders, operations, shops, arguments.rounds, counted=counted)
    results = {
        "date": datetime.now(UTC).isoformat(),
        "machine": machine(),
        "microseconds": taken,
        "instructions": counts,
    }
    arguments.json.write_text(json.dumps(results, indent=1))
    for line in table(contenders, operations, taken, "Processor time of a request in µs"):
        say(line)
    if counted:
        for line in table(contenders, operations, counts, "Instructions of a request"):
            say(line)
    else:
        say("\nInstructions are not counted: perf is not there, or may not count on this machine.")


if __name__ == "__main__":
    main()
