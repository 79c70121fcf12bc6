"""State machines as arrows, and as a Mermaid diagram.

docs/orders.md contains the diagram (https://mermaid.js.org/syntax/stateDiagram.html).
"""

from collections.abc import Iterator
from typing import NamedTuple

from models.lifecycle import Lifecycle, Transitions

STAYS = "\N{CLOCKWISE OPEN CIRCLE ARROW}"
"""Mark before actions that do not change the state."""


class Arrow(NamedTuple):
    """A transition to another or the same state; `automatic` if the service makes it."""

    source: str
    target: str
    label: str
    """The actions of the transition, separated by commas."""
    automatic: bool


def arrows(lifecycle: Lifecycle) -> tuple[Arrow, ...]:
    """Return one arrow for each pair of connected states, in the contract's order."""
    actions = _arrows(lifecycle.actions, automatic=False)
    return (*actions, *_arrows(lifecycle.automatic, automatic=True))


def mermaid(lifecycle: Lifecycle) -> str:
    """Return the state machine as a `stateDiagram-v2` that starts in the first state.

    Actions that do not change a state are listed under its name. States without actions are final.
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
