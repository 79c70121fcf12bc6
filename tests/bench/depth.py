"""Compares pages of long lists: `python tests/bench/depth.py [--orders N] [--database-url URL]`.

The database is filled once, in bulk, and can be measured again; without a URL it is a file under
var/bench. Every kind of page is read in turns through the functions that the service uses, so that
a busy moment of the machine falls on all, and compared by the median over rounds of the ratio to
the first page. The plans follow the table, if they are asked for. It ends by itself after a few
minutes.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.storage.database import Database
from tests.bench.filling import fill
from tests.bench.pages import Case, order_cases, product_cases, total_cases

ROUNDS = 60
WARM = 12
"""Rounds before the measurement: PostgreSQL decides on a plan for good after ten executions."""
SECONDS = 240.0


def measure(database: Database, cases: Sequence[Case], deadline: float) -> dict[str, list[float]]:
    """The seconds that each page took, in every round."""
    random = Random(1)  # noqa: S311 - chance keeps the order of the cases from mattering.
    taken: dict[str, list[float]] = {case.name: [] for case in cases}
    for turn in range(WARM + ROUNDS):
        for case in random.sample(cases, len(cases)):
            begun = time.perf_counter()
            database.read(case.read)
            if turn >= WARM:
                taken[case.name].append(time.perf_counter() - begun)
        if turn > WARM and time.monotonic() > deadline:
            break
    return taken


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect what is sent to the database meanwhile."""
    seen: list[tuple[str, Any]] = []

    def collect(_connection: Connection, _cursor: object, text: str, *rest: Any) -> None:  # noqa: ANN401 - The event's own.
        seen.append((text, rest[0]))

    event.listen(Engine, "before_cursor_execute", collect)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", collect)


def plan(case: Case, session: Session) -> list[str]:
    """How the database finds the rows of the page; the lines that belong to them are left out."""
    with statements() as seen:
        case.read(session)
    connection = session.connection()
    embedded = connection.dialect.name == "sqlite"
    options = "ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF"
    explain = "EXPLAIN QUERY PLAN" if embedded else f"EXPLAIN ({options})"
    lines: list[str] = []
    for text, parameters in seen:
        if text.startswith("SELECT") and "FROM order_lines" not in text:
            rows = connection.exec_driver_sql(f"{explain} {text}", parameters)
            lines += [str(row[-1]) for row in rows]
    return lines


def report(database: Database, title: str, cases: Sequence[Case], *, plans: bool) -> None:
    """Print the table of some cases, and their plans."""
    taken = measure(database, cases, time.monotonic() + SECONDS)
    first = taken[cases[0].name]
    print(f"{title:32} {'median ms':>9} {'ratio':>7} {'rows':>4}   ({len(first)} rounds)")  # noqa: T201 - This program prints tables.
    for case in cases:
        own = taken[case.name]
        ratio = statistics.median(mine / base for mine, base in zip(own, first, strict=True))
        rows = len(database.read(case.read).items)
        print(f"{case.name:32} {statistics.median(own) * 1000:9.2f} {ratio:7.2f} {rows:4}")  # noqa: T201 - As above.
    for case in cases if plans else ():
        print(f"\n-- {title}: {case.name}")  # noqa: T201 - As above.
        for line in database.transact(partial(plan, case), write=False):
            print(f"   {line}")  # noqa: T201 - As above.
    print()  # noqa: T201 - As above.


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--orders", type=int, default=100_000, help="a million takes minutes")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--database-url", help="of an empty database, or of one so filled")
    parser.add_argument("--plans", action="store_true", help="print how each page is found")
    arguments = parser.parse_args()
    name = f"depth-{arguments.orders}-{arguments.products}.db"
    url = arguments.database_url or f"sqlite:///{ROOT}/var/bench/{name}"
    begun = time.monotonic()
    fill(url, orders=arguments.orders, products=arguments.products)
    print(f"filled in {time.monotonic() - begun:.0f} s")  # noqa: T201 - As above.
    database = Database(url, pool_size=1, statement_timeout=30.0)
    try:
        cases = [
            *order_cases(database, arguments.orders),
            *total_cases(database, arguments.orders),
        ]
        report(database, "orders", cases, plans=arguments.plans)
        cases = list(product_cases(database, arguments.products))
        report(database, "products", cases, plans=arguments.plans)
    finally:
        database.dispose()


if __name__ == "__main__":
    main()
