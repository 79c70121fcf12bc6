"""What was measured: kept by round, and told as medians in Markdown and in JSON."""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Self

from tests.bench.contenders import CONTENDERS, Contender
from tests.bench.load import Measurement
from tests.bench.operations import OPERATIONS, MeasuredOperation
from tests.bench.telling import machine

_PACKAGES = (
    *("connexion", "fastapi", "litestar", "msgspec", "flask-smorest", "django", "django-ninja"),
    *("flask", "sqlalchemy", "uvicorn", "gunicorn"),
)


@dataclass(frozen=True, slots=True)
class Note:
    """What there is once of each contender; memory is the resident set of all its processes."""

    start_seconds: float
    peak_bytes: int
    bytes_after: int
    """When the load is over."""


class Results:
    """Measurements of contenders, the first of which is Concord."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        operations: Sequence[MeasuredOperation],
        connections: Sequence[int],
    ) -> None:
        self.contenders = contenders
        self.operations = operations
        self.connections = connections
        self.date = datetime.now(UTC)
        self.machine = machine()
        self._measured: dict[tuple[str, str, int], list[Measurement]] = {}
        self.notes: dict[str, Note] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        told = json.loads(path.read_text())
        turns = told["turns"]
        results = cls(
            [each for each in CONTENDERS if each.name in told["processes"]],
            [each for each in OPERATIONS if each.name in {turn["operation"] for turn in turns}],
            sorted({turn["connections"] for turn in turns}),
        )
        results.date, results.machine = datetime.fromisoformat(told["date"]), told["machine"]
        results.notes = {name: Note(**note) for name, note in told["processes"].items()}
        for turn in turns:
            key = (turn.pop("contender"), turn.pop("operation"), turn.pop("connections"))
            # Turns are written in the order of their rounds.
            del turn["round"]
            results._measured.setdefault(key, []).append(Measurement(**turn))
        return results

    def add(
        self, contender: Contender, operation: MeasuredOperation, connections: int, one: Measurement
    ) -> None:
        """Add a contender's turn of a round."""
        self._measured.setdefault((contender.name, operation.name, connections), []).append(one)

    def of(
        self, contender: Contender, operation: MeasuredOperation, connections: int
    ) -> Sequence[Measurement]:
        """A contender's turns; there are none where it does not have the operation."""
        return self._measured.get((contender.name, operation.name, connections), ())

    def rate(
        self, contender: Contender, operation: MeasuredOperation, connections: int
    ) -> float | None:
        """Requests a second, the median of the rounds."""
        turns = self.of(contender, operation, connections)
        return statistics.median(turn.rate for turn in turns) if turns else None

    def ratio(
        self,
        contender: Contender,
        operation: MeasuredOperation,
        connections: int,
        measure: Callable[[Measurement], float] = attrgetter("rate"),
    ) -> float | None:
        """How many times as much Concord has of a measure, the median of the rounds' ratios.

        Of requests a second, unless another measure is named.
        """
        theirs = self.of(contender, operation, connections)
        ours = self.of(self.contenders[0], operation, connections)
        pairs = zip(ours, theirs, strict=bool(theirs))
        ratios = [measure(mine) / measure(other) for mine, other in pairs if measure(other)]
        return statistics.median(ratios) if ratios else None

    def table(self) -> str:
        """Everything as Markdown."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"Measured on {self.date:%Y-%m-%d} on {self.machine}."
        middle, most = self.connections[len(self.connections) // 2], self.connections[-1]
        for operation in self.operations:
            yield f"\n**{operation.title}** (requests/s; the ratio is Concord's to theirs)\n"
            heads = " | ".join(f"{each} conn. | ratio" for each in self.connections)
            yield f"| | {heads} | p99 at {most}, ms | CPU at {middle}, µs | failed |"
            yield "|---" * (5 - 1 + 2 * len(self.connections)) + "|"
            for contender in self.contenders:
                if self.of(contender, operation, middle):
                    yield self._row(contender, operation)
        yield "\n\\* In a turn so short most connections got no second answer: take more seconds."
        yield "\n| | start to first answer, s | memory after the load, MB | at the most |"
        yield "|---|---|---|---|"
        for contender in self.contenders:
            if contender.name in self.notes:
                note = self.notes[contender.name]
                sizes = f"{note.bytes_after / 1e6:.0f} | {note.peak_bytes / 1e6:.0f}"
                yield f"| {contender.title} | {note.start_seconds:.2f} | {sizes} |"

    def _row(self, contender: Contender, operation: MeasuredOperation) -> str:
        cells = []
        for connections in self.connections:
            rate = self.rate(contender, operation, connections)
            ratio = self.ratio(contender, operation, connections)
            mark = "*" if self._is_short(contender, operation, connections) else ""
            cells += [f"{rate:,.0f}{mark}", "-" if ratio is None else f"{ratio:.2f}"]
        at_most = self.of(contender, operation, self.connections[-1])
        at_middle = self.of(contender, operation, self.connections[len(self.connections) // 2])
        every = [turn for each in self.connections for turn in self.of(contender, operation, each)]
        cells.append(f"{statistics.median(turn.p99 for turn in at_most):.1f}")
        cells.append(f"{statistics.median(turn.cpu for turn in at_middle):.0f}")
        cells.append(str(sum(turn.failed for turn in every)))
        return f"| {contender.title} | {' | '.join(cells)} |"

    def _is_short(
        self, contender: Contender, operation: MeasuredOperation, connections: int
    ) -> bool:
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
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {
                "date": self.date.isoformat(),
                "machine": self.machine,
                "packages": {name: version(name) for name in _PACKAGES},
                "processes": {name: asdict(note) for name, note in self.notes.items()},
                "turns": turns,
            },
            indent=1,
        )
        path.write_text(text + "\n")
