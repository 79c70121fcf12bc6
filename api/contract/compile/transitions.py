"""State machines, declared beside the enum of their states (`x-transitions`).

`actions` gives, for each state, the actions that clients may take and the states they lead to.
`automatic` does the same for the service's own actions, which are hidden from clients.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from api.contract.compile.schemas import SchemaNode, flatten
from api.contract.engine_errors import ContractViolation, Mistake

TRANSITIONS = "x-transitions"

Transitions: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
"""For each state, the actions that it allows and the states that each may lead to."""


class StateMachine(NamedTuple):
    """A state machine as the contract declares it; the application runs it."""

    actions: Transitions
    automatic: Transitions


def compile_state_machine(bundle: SchemaNode, name: str) -> StateMachine:
    """Compile the state machine of a component schema, which is the enum of its states.

    Raises:
        Mistake: the component does not exist, or its state machine is invalid.
    """
    place = ("components", "schemas")
    if name not in bundle["components"]["schemas"]:
        raise Mistake(place, f"the application needs components/schemas/{name}.yaml; add it")
    try:
        return state_machine_of(flatten(bundle, bundle["components"]["schemas"][name]))
    except ContractViolation as violation:
        raise Mistake((*place, name), str(violation)) from violation


def state_machine_of(schema: SchemaNode) -> StateMachine:
    """Compile the state machine of a schema without references.

    Raises:
        ContractViolation: the state machine is missing, or its states differ from the enum.
    """
    declared: SchemaNode = schema.get(TRANSITIONS, {})
    if "actions" not in declared or "enum" not in schema:
        raise ContractViolation(f"{TRANSITIONS} needs actions, beside the enum of the states")
    actions = _transitions(declared["actions"])
    automatic = _transitions(declared.get("automatic", {}))
    states = set(schema["enum"])
    if set(actions) != states:
        raise _violation(set(actions) ^ states, "is in only one of the enum and actions")
    if not states.issuperset(automatic):
        raise _violation(set(automatic) - states, "is in automatic but not in the enum")
    for table in (actions, automatic):
        for state, choices in table.items():
            _check(state, choices, states)
    for state, choices in automatic.items():
        if not actions[state].keys().isdisjoint(choices):
            raise _violation({state}, "has an action that is also automatic")
    return StateMachine(actions, automatic)


def require_actions(machine: StateMachine, names: Iterable[str]) -> None:
    """Check that every action has one of these names.

    Raises:
        ContractViolation: an action has another name.
    """
    unknown = {action for choices in machine.actions.values() for action in choices} - set(names)
    if unknown:
        reason = f"the enum of actions lacks {', '.join(sorted(unknown))}"
        raise ContractViolation(f"{TRANSITIONS}: {reason}")


def _transitions(declared: SchemaNode) -> Transitions:
    return {
        str(state): {str(action): tuple(targets) for action, targets in choices.items()}
        for state, choices in declared.items()
    }


def _check(state: str, choices: Mapping[str, tuple[str, ...]], states: set[str]) -> None:
    for action, targets in choices.items():
        if not targets or not states.issuperset(targets):
            raise _violation({state}, f"has an action {action} that leads to no state of the enum")


def _violation(states: set[str], reason: str) -> ContractViolation:
    return ContractViolation(f"{TRANSITIONS}: the state {', '.join(sorted(states))} {reason}")
