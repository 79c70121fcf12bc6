"""The fault bench: `python tests/faults/bench.py [--kills N] …`, or `make faults`.

Customers order from three replicas behind HAProxy, with a PostgreSQL server of the bench's own, and
repeat refused requests with the same key, while one kind of fault after another happens. After each
portion, every confirmed order must be in the database exactly once, and the books must be right.
While the mail server fails, people sign up instead: each message that they were promised must
arrive, and those that arrive again are counted. Completed portions are kept in var/faults.json, so
an interrupted run continues where it stopped. The goals are the default, and take hours. The
results are a table.
"""

# ruff: noqa: E402, T201 - as a script it has to say first where the repository is, and prints.
import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.faults.failing_shop import FAKETIME, FailingShop, open_failing_shop

RESULTS = ROOT / "var" / "faults.json"
PORTION = 25
"""Faults that happen to one shop before its books are checked."""
FAULTS: dict[str, tuple[str, int, Callable[[FailingShop, int], dict[str, float]], int]] = {
    "kills": ("replicas killed", 1000, lambda s, n: s.repeat(FailingShop.kill, n), PORTION),
    "restarts": (
        "PostgreSQL crashed", 100, lambda s, n: s.repeat(FailingShop.restart_database, n), PORTION,
    ),
    "poolers": (
        "PgBouncer killed", 100, lambda s, n: s.repeat(FailingShop.restart_pooler, n), PORTION,
    ),
    "deploys": ("rolling deploys", 100, lambda s, n: s.repeat(FailingShop.deploy, n), PORTION),
    "cuts": ("network cut for 8 s", 20, lambda s, n: s.repeat(FailingShop.cut, n), PORTION),
    "full": ("disk full for 3 s", 20, lambda s, n: s.repeat(FailingShop.fill_disk, n), PORTION),
    "clocks": ("clock ±5 min", 20, lambda s, n: s.repeat(FailingShop.step_clock, n), PORTION),
    "buyers": ("buyers want 12 of 10 each", 1000, FailingShop.rush, 10**6),
    "slow": ("slow clients", 5000, FailingShop.hold_connections, 10**6),
    "mail": ("mail server down for 12 s", 20, FailingShop.fail_mail, PORTION),
}  # fmt: skip
"""By option: the title, the goal, what happens, and how often at most to one shop."""
COLUMNS = ("times", "confirmed", "repeated", "lost", "doubled", "again", "slowest")


def run(name: str, goal: int, done: dict[str, dict[str, float]]) -> None:
    """Let a fault happen until its goal is reached, and record each portion."""
    title, _, fault, most = FAULTS[name]
    mine = done.setdefault(name, {"times": 0})
    while (left := goal - int(mine["times"])) > 0:
        times = min(left, most)
        with open_failing_shop(faked=name == "clocks", pooled=name == "poolers") as shop:
            found = fault(shop, times)
        for key, value in found.items():
            known = mine.get(key, 0)
            mine[key] = max(known, value) if key == "slowest" else known + value
        mine["times"] += times
        RESULTS.write_text(json.dumps(done, indent=1))
    cells = [title, *(f"{mine.get(key, 0):,.0f}" for key in COLUMNS[:-1])]
    print(f"| {' | '.join(cells)} | {mine['slowest']:.1f} s |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, (title, goal, *_) in FAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=goal, help=f"{title}; default {goal}")
    goals = vars(parser.parse_args())
    if goals["full"] and os.geteuid() != 0:
        raise SystemExit("only root can make a small disk to fill: add --full 0")
    if goals["clocks"] and not FAKETIME.exists():
        raise SystemExit("Debian's package libfaketime is missing: install it, or add --clocks 0")
    RESULTS.parent.mkdir(exist_ok=True)
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print("| fault | times | confirmed | repeated requests | lost | doubled | again | slowest |")
    print("|---|---|---|---|---|---|---|---|")
    for name, goal in goals.items():
        if goal:
            run(name, goal, done)
    if any(found.get("lost") or found.get("doubled") for found in done.values()):
        raise SystemExit("orders or messages were lost, or orders were duplicated")


if __name__ == "__main__":
    main()
