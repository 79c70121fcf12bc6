"""What is wanted of Concord and what was reached: `python tests/bench/goals.py`.

The figures are those that `compare.py`, `in_process.py` and `scaling.py` wrote last. Of several
operations and numbers of connections the worst one counts, of a peer's two forms the better one,
and of rounds the median. The ratios of processor time are those of a peer to Concord.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.load import Measurement
from tests.bench.operations import OPERATIONS
from tests.bench.results import Results
from tests.bench.telling import say

FOLDER = ROOT / "var" / "bench"
_OFTEN = [each for each in OPERATIONS if not each.is_rare]
_DATABASE = tuple(each.name for each in _OFTEN if each.kind in {"user", "orders", "create"})
_REJECTED = tuple(each.name for each in _OFTEN if each.is_rejected)
_EVERY = tuple(each.name for each in _OFTEN)
_FASTAPI = ("fastapi", "fastapi-async")
_LITESTAR = ("litestar", "litestar-async")


@dataclass(frozen=True, slots=True)
class Runs:
    """What was measured; what was not is empty."""

    compared: Results
    in_process: Mapping[str, Any]
    scaling: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reached:
    """One figure of a goal, and what it is of."""

    value: float
    what: str = ""
    when: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound, and what is held against it: `figures` is told the runs and the goal.

    `forms` are those of the peer that it speaks of; the better one of them counts.
    """

    title: str
    kind: Literal["at least", "at most", "as is"]
    bound: float
    figures: "Figures"
    forms: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    connections: tuple[int, ...] = ()
    """None of them are all of them."""

    def misses(self, value: float) -> float:
        """By what part of the bound a figure falls short of it, or is beyond it; 0 is none."""
        beyond = value / self.bound - 1 if self.kind == "at most" else 1 - value / self.bound
        return 0.0 if self.kind == "as is" else max(0.0, beyond)


Figures: TypeAlias = Callable[[Runs, Goal], Iterator[Reached]]


def _rates(runs: Runs, goal: Goal) -> Iterator[Reached]:
    return _ratios(runs.compared, goal, attrgetter("rate"), min)


def _p99s(runs: Runs, goal: Goal) -> Iterator[Reached]:
    return _ratios(runs.compared, goal, attrgetter("p99"), max)


def _ratios(
    compared: Results,
    goal: Goal,
    measure: Callable[[Measurement], float],
    worst: Callable[[list[tuple[float, str]]], tuple[float, str]],
) -> Iterator[Reached]:
    """Concord's to theirs, of each operation and number of connections."""
    forms = [each for each in compared.contenders if each.name in goal.forms]
    for operation in compared.operations:
        if operation.name not in goal.operations:
            continue
        for connections in goal.connections or compared.connections:
            found = [
                (ratio, each.title)
                for each in forms
                if (ratio := compared.ratio(each, operation, connections, measure)) is not None
            ]
            if found:
                ratio, form = worst(found)
                named = f", {form}" if len(goal.forms) > 1 else ""
                yield Reached(ratio, operation.title, f"{connections} conn.{named}")


def _under_load(runs: Runs, goal: Goal) -> Iterator[Reached]:
    """Processor time of the servers under load, theirs to Concord's."""
    theirs = _ratios(runs.compared, goal, attrgetter("cpu"), max)
    return (Reached(1 / each.value) for each in theirs if each.value)


def _without_network(runs: Runs, goal: Goal) -> Iterator[Reached]:
    """Processor time of the applications, theirs to Concord's."""
    for operation, taken in runs.in_process.get("microseconds", {}).items():
        found = [
            statistics.median(
                their / our for their, our in zip(taken[form], taken["concord"], strict=True)
            )
            for form in goal.forms
            if form in taken
        ]
        if found and operation in goal.operations:
            yield Reached(min(found))


def _memory(runs: Runs, goal: Goal) -> Iterator[Reached]:
    notes = runs.compared.notes
    sizes = [notes[form].bytes_after for form in goal.forms if form in notes]
    if sizes and "concord" in notes:
        yield Reached(notes["concord"].bytes_after / min(sizes))


def _start_seconds(runs: Runs, _goal: Goal) -> Iterator[Reached]:
    seconds = runs.scaling.get("starts", {}).get("concord")
    if seconds:
        yield Reached(statistics.median(seconds))


def _start_ratio(runs: Runs, _goal: Goal) -> Iterator[Reached]:
    taken = runs.scaling.get("starts", {})
    if "connexion" in taken:
        pairs = zip(taken["concord"], taken["connexion"], strict=True)
        yield Reached(statistics.median(our / their for our, their in pairs))


def _routing(runs: Runs, _goal: Goal) -> Iterator[Reached]:
    taken = runs.scaling.get("operations", {})
    if taken:
        pairs = zip(taken["1000"], taken["10"], strict=True)
        yield Reached(statistics.median(many / few for many, few in pairs))


def _idle_memory(runs: Runs, _goal: Goal) -> Iterator[Reached]:
    for _, size in runs.scaling.get("memory", [])[:1]:
        yield Reached(size / 1e6)


def _two_processes(measure: str) -> Figures:
    """A measure of two processes to that of one, while they place orders on SQLite."""

    def figures(runs: Runs, _goal: Goal) -> Iterator[Reached]:
        taken = runs.scaling.get("processes", {})
        if "create 2" in taken:
            pairs = zip(taken["create 2"], taken["create 1"], strict=True)
            yield Reached(statistics.median(two[measure] / one[measure] for two, one in pairs))

    return figures


def _crowd(runs: Runs, _goal: Goal) -> Iterator[Reached]:
    taken = runs.scaling.get("crowds", {})
    if taken:
        pairs = zip(taken["500"], taken["64"], strict=True)
        yield Reached(statistics.median(many / few for many, few in pairs))


def _growth(runs: Runs, _goal: Goal) -> Iterator[Reached]:
    sizes = runs.scaling.get("memory", [])
    if len(sizes) > 2:
        (few, before), (many, after) = sizes[1], sizes[-1]
        yield Reached(after / before, f"{many:,} requests to {few:,}")


GOALS = (
    Goal("requests/s to stock connexion[flask]'s", "at least", 5.0, _rates, ("connexion",), _EVERY),
    Goal(
        "requests/s to FastAPI's, database and rejected body",
        *("at least", 2.0, _rates, _FASTAPI, (*_DATABASE, *_REJECTED)),
    ),
    Goal("requests/s to Litestar's, database", "at least", 1.5, _rates, _LITESTAR, _DATABASE),
    Goal("requests/s to flask-smorest's", "at least", 2.0, _rates, ("flask-smorest",), _EVERY),
    Goal("requests/s to django-ninja's", "at least", 2.0, _rates, ("django-ninja",), _EVERY),
    Goal("requests/s to FastAPI's, sync", "at least", 1.2, _rates, ("fastapi",), ("health",)),
    Goal("requests/s to Litestar's, as near as", "as is", 1.0, _rates, _LITESTAR, ("health",)),
    Goal("requests/s to hand-written Flask's", "at least", 1.0, _rates, ("flask",), _EVERY),
    Goal("requests/s to tuned FastAPI's", "at least", 1.5, _rates, ("fastapi-tuned",), _DATABASE),
    Goal(
        "requests/s to tuned FastAPI's, rejected body",
        *("at least", 2.0, _rates, ("fastapi-tuned",), _REJECTED),
    ),
    Goal("requests/s to tuned Litestar's", "at least", 1.3, _rates, ("litestar-tuned",), _DATABASE),
    Goal(
        "requests/s to tuned Litestar's, elsewhere",
        *("at least", 1.0, _rates, ("litestar-tuned",), ("health", *_REJECTED)),
    ),
    Goal("requests/s to a bare function's", "at least", 0.9, _rates, ("asgi-tuned",), _DATABASE),
    Goal("requests/s to fastify's", "at least", 1.0, _rates, ("fastify",), ("orders", "create")),
    Goal("requests/s to fastify's, as near as", "as is", 1.0, _rates, ("fastify",), ("user",)),
    Goal("p99 to FastAPI's", "at most", 0.6, _p99s, _FASTAPI, _EVERY, (64,)),
    Goal("CPU a request with 1,000 operations to 10", "at most", 1.1, _routing),
    Goal("orders/s of 2 processes to 1, SQLite", "at least", 1.0, _two_processes("rate")),
    Goal("p99 of orders of 2 processes to 1, SQLite", "at most", 1.2, _two_processes("p99")),
    Goal("orders/s at 500 connections to 64", "at least", 0.9, _crowd),
    Goal("seconds to first answer", "at most", 0.8, _start_seconds),
    Goal("memory before the load, MB", "at most", 100, _idle_memory),
    Goal("seconds to first answer to stock connexion's", "at most", 1.0, _start_ratio),
    Goal("memory after the load to FastAPI's", "at most", 1.0, _memory, _FASTAPI),
    Goal("memory after so many requests", "at most", 1.05, _growth),
)


def report(runs: Runs) -> Iterator[str]:
    """The table of the goals as Markdown, and one of every operation that misses its goal."""
    yield "\n| goal | | reached | where | CPU under load | CPU in-process | |"
    yield "|---" * 7 + "|"
    missed: list[str] = []
    for goal in GOALS:
        found = list(goal.figures(runs, goal))
        if not found:
            yield f"| {goal.title} | {_bound(goal)} | not measured | | | | |"
            continue
        worst = (max if goal.kind == "at most" else min)(found, key=attrgetter("value"))
        short = goal.misses(worst.value)
        cpu = [_lowest(runs, goal, figures) for figures in (_under_load, _without_network)]
        told = f"missed by {short:.0%}" if short else "met" if goal.kind != "as is" else ""
        where = ", ".join(filter(None, (worst.what, worst.when)))
        cells = (goal.title, _bound(goal), f"{worst.value:.2f}", where, *cpu, told)
        yield f"| {' | '.join(cells)} |"
        missed += _missed(goal, found)
    if missed:
        yield "\n| missed | | operation | figures that miss it |\n|---|---|---|---|"
        yield from missed
    dates = {"without a network": runs.in_process, "scaling": runs.scaling}
    told = ", ".join(f"{name} {run['date'][:16]}" for name, run in dates.items() if "date" in run)
    yield f"\nMeasured: under load {runs.compared.date.isoformat()[:16]}{told and ', ' + told}."


def _missed(goal: Goal, found: Sequence[Reached]) -> Iterator[str]:
    """The rows of a goal in the table of what misses its goal."""
    for what in dict.fromkeys(each.what for each in found if each.when):
        missing = [each for each in found if each.what == what and goal.misses(each.value)]
        if missing:
            figures = "; ".join(f"{each.value:.2f} at {each.when}" for each in missing)
            yield f"| {goal.title} | {_bound(goal)} | {what} | {figures} |"


def _bound(goal: Goal) -> str:
    return "" if goal.kind == "as is" else f"{'≤' if goal.kind == 'at most' else '≥'} {goal.bound}"


def _lowest(runs: Runs, goal: Goal, figures: Figures) -> str:
    found = [each.value for each in figures(runs, goal)] if goal.figures is _rates else []
    return f"{min(found):.2f}" if found else ""


def read(compared: Path) -> Runs:
    """Read the results that there are."""
    files = [FOLDER / f"{name}.json" for name in ("in-process", "scaling")]
    others: Sequence[Mapping[str, Any]] = [
        json.loads(file.read_text()) if file.exists() else {} for file in files
    ]
    return Runs(Results.read(compared), *others)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, default=FOLDER / "compare.json")
    for line in report(read(parser.parse_args().json)):
        say(line)


if __name__ == "__main__":
    main()
