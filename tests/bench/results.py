"""What was measured: kept by round, and told as medians in Markdown and in JSON."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench.contenders import Contender
from tests.bench.load import Measurement
from tests.bench.operations import Operation

_PACKAGES = (
    *("connexion", "fastapi", "litestar", "msgspec", "flask-smorest", "django", "django-ninja"),
    *("flask", "sqlalchemy", "uvicorn", "gunicorn"),
)


def say(text: str) -> None:
    """Print: this program's output is its report."""
    print(text, flush=True)  # noqa: T201 - See above.


class Results:
    """Measurements of contenders, the first of which is Concord."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        operations: Sequence[Operation],
        connections: Sequence[int],
    ) -> None:
        self.contenders = contenders
        self.operations = operations
        self.connections = connections
        self.date = datetime.now(UTC)
        self.machine = machine()
        self._measured: dict[tuple[str, str, int], list[Measurement]] = {}
        self._notes: dict[str, tuple[float, int]] = {}

    def add(
        self, contender: Contender, operation: Operation, connections: int, one: Measurement
    ) -> None:
        """Add a contender's turn of a round."""
        self._measured.setdefault((contender.name, operation.name, connections), []).append(one)

    def note(self, contender: Contender, start_seconds: float, peak_bytes: int) -> None:
        """Add what there is once of each contender."""
        self._notes[contender.name] = (start_seconds, peak_bytes)

    def of(
        self, contender: Contender, operation: Operation, connections: int
    ) -> Sequence[Measurement]:
        """A contender's turns; there are none where it does not have the operation."""
        return self._measured.get((contender.name, operation.name, connections), ())

    def rate(self, contender: Contender, operation: Operation, connections: int) -> float | None:
        """Requests a second, the median of the rounds."""
        turns = self.of(contender, operation, connections)
        return statistics.median(turn.rate for turn in turns) if turns else None

    def ratio(self, contender: Contender, operation: Operation, connections: int) -> float | None:
        """How many times as many requests Concord answers, the median of the rounds' ratios."""
        theirs = self.of(contender, operation, connections)
        ours = self.of(self.contenders[0], operation, connections)
        pairs = zip(ours, theirs, strict=bool(theirs))
        ratios = [mine.rate / other.rate for mine, other in pairs if other.rate]
        return statistics.median(ratios) if ratios else None

    def table(self) -> str:
        """Everything as Markdown."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"Measured on {self.date:%Y-%m-%d} on {self.machine}."
        middle, most = self.connections[1], self.connections[-1]
        for operation in self.operations:
            yield f"\n**{operation.title}** (requests/s; the ratio is Concord's to theirs)\n"
            heads = " | ".join(f"{each} conn. | ratio" for each in self.connections)
            yield f"| | {heads} | p99 at {most}, ms | CPU at {middle}, µs | failed |"
            yield "|---" * (5 - 1 + 2 * len(self.connections)) + "|"
            for contender in self.contenders:
                if self.of(contender, operation, middle):
                    yield self._row(contender, operation)
        yield "\n\\* In a turn so short most connections got no second answer: take more seconds."
        yield "\n| | start to first answer, s | peak memory, MB |"
        yield "|---|---|---|"
        for contender in self.contenders:
            if contender.name in self._notes:
                seconds, peak = self._notes[contender.name]
                yield f"| {contender.title} | {seconds:.2f} | {peak / 1e6:.0f} |"

    def _row(self, contender: Contender, operation: Operation) -> str:
        cells = []
        for connections in self.connections:
            rate = self.rate(contender, operation, connections)
            ratio = self.ratio(contender, operation, connections)
            mark = "*" if self._is_short(contender, operation, connections) else ""
            cells += [f"{rate:,.0f}{mark}", "-" if ratio is None else f"{ratio:.2f}"]
        at_most = self.of(contender, operation, self.connections[-1])
        at_middle = self.of(contender, operation, self.connections[1])
        every = [turn for each in self.connections for turn in self.of(contender, operation, each)]
        cells.append(f"{statistics.median(turn.p99 for turn in at_most):.1f}")
        cells.append(f"{statistics.median(turn.cpu for turn in at_middle):.0f}")
        cells.append(str(sum(turn.failed for turn in every)))
        return f"| {contender.title} | {' | '.join(cells)} |"

    def _is_short(self, contender: Contender, operation: Operation, connections: int) -> bool:
        turns = self.of(contender, operation, connections)
        return any(turn.requests < 2 * connections for turn in turns)

    def write(self, path: Path) -> None:
        """Write every turn as JSON."""
        turns = [
            {"contender": name, "operation": operation, "connections": connections, "round": number}
            | turn.as_dict()
            for (name, operation, connections), measured in self._measured.items()
            for number, turn in enumerate(measured)
        ]
        notes = {
            name: {"start_seconds": seconds, "peak_bytes": peak}
            for name, (seconds, peak) in self._notes.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {
                "date": self.date.isoformat(),
                "machine": self.machine,
                "packages": {name: version(name) for name in _PACKAGES},
                "processes": notes,
                "turns": turns,
            },
            indent=1,
        )
        path.write_text(text + "\n")


def machine() -> str:
    """The machine in a few words."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{cores} cores of {model}, Linux {platform.release()}, Python {python}"
