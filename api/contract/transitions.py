"""State machines, which the contract writes beside the enum of their states (`x-transitions`).

`actions` says for every state which actions clients may take and where each may lead; `automatic`
says the same of what the service does by itself, and no client is told of it.
"""

from collections.abc import Iterable, Mapping

from api.contract.errors import ContractViolation
from api.contract.schemas import SchemaNode, flatten
from models.lifecycle import Lifecycle, Transitions

TRANSITIONS = "x-transitions"


def compile_lifecycle(bundle: SchemaNode, name: str) -> Lifecycle:
    """Compile the state machine of a component that is the enum of its states.

    Raises:
        ContractViolation: a state of the enum is not told of, or one is told of that it lacks.
    """
    return lifecycle_of(flatten(bundle, bundle["components"]["schemas"][name]))


def lifecycle_of(schema: SchemaNode) -> Lifecycle:
    """Compile the state machine of a schema without references.

    Raises:
        ContractViolation: as in `compile_lifecycle`.
    """
    declared: SchemaNode = schema[TRANSITIONS]
    actions = _transitions(declared["actions"])
    automatic = _transitions(declared.get("automatic", {}))
    states = set(schema["enum"])
    if set(actions) != states:
        raise _violation(set(actions) ^ states, "stands either in the enum or in actions only")
    if not states.issuperset(automatic):
        raise _violation(set(automatic) - states, "stands in automatic and not in the enum")
    for table in (actions, automatic):
        for state, choices in table.items():
            _check(state, choices, states)
    for state, choices in automatic.items():
        if not actions[state].keys().isdisjoint(choices):
            raise _violation({state}, "has an action for clients that is automatic as well")
    return Lifecycle(actions, automatic)


def require_actions(lifecycle: Lifecycle, names: Iterable[str]) -> None:
    """Insist that every action has one of the names.

    Raises:
        ContractViolation: one has not.
    """
    unknown = {action for choices in lifecycle.actions.values() for action in choices} - set(names)
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
