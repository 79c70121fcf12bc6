"""A state machine for people: its arrows, and all of it as a diagram of Mermaid.

README.md has the latter (https://mermaid.js.org/syntax/stateDiagram.html), and code hosts draw it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from models.lifecycle import Lifecycle, Transitions

STAYS = "\N{CLOCKWISE OPEN CIRCLE ARROW}"
"""Stands before the actions that leave a state as it is."""


class Arrow(NamedTuple):
    """What leads from a state to another one, or back to itself; `automatic`: by the service."""

    source: str
    target: str
    label: str
    """The actions, separated by commas."""
    automatic: bool


def arrows(lifecycle: Lifecycle) -> tuple[Arrow, ...]:
    """Return one arrow for each two states that actions lead between, in the contract's order."""
    actions = _arrows(lifecycle.actions, automatic=False)
    return (*actions, *_arrows(lifecycle.automatic, automatic=True))


def mermaid(lifecycle: Lifecycle) -> str:
    """Write the state machine as a `stateDiagram-v2`; it begins in the first state.

    What leaves a state as it is stands under the state's name. A state without any action is an
    end.
    """
    first, *_ = lifecycle.actions
    lines = ["stateDiagram-v2", "direction LR", f"[*] --> {first}"]
    for source, target, label, automatic in arrows(lifecycle):
        if source == target:
            lines += [f"{source}: {source}", f"{source}: {STAYS} {label}"]
        else:
            who = " (by itself)" if automatic else ""
            lines.append(f"{source} --> {target}: {label}{who}")
    lines += [f"{state} --> [*]" for state, choices in lifecycle.actions.items() if not choices]
    return "\n    ".join(lines) + "\n"


def _arrows(table: Transitions, *, automatic: bool) -> Iterator[Arrow]:
    for source, choices in table.items():
        actions: dict[str, list[str]] = {}
        for action, targets in choices.items():
            for target in targets:
                actions.setdefault(target, []).append(action)
        for target, names in actions.items():
            yield Arrow(source, target, ", ".join(names), automatic)
