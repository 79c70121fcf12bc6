"""Rules for state machines (`x-transitions`): every target and every action exists."""

import re
from collections.abc import Iterator

from api.contract.compile.schemas import SchemaNode, Validator
from tests.contract.walk import DeclaredOperation, Finding, operations, schemas

_CHOICES: SchemaNode = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string"},
        },
    },
}
TRANSITIONS: SchemaNode = {
    "type": "object",
    "additionalProperties": False,
    "required": ["actions"],
    "properties": {"actions": _CHOICES, "automatic": _CHOICES},
}


def transitions_lead_to_states(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        if "x-transitions" not in schema:
            continue
        if not Validator(bundle, TRANSITIONS).is_valid(schema["x-transitions"]):
            yield Finding(place, "has x-transitions of another shape")
            continue
        states, declared = schema.get("enum", []), schema["x-transitions"]
        if list(declared["actions"]) != states:
            yield Finding(place, "does not say of each state, in their order, what it allows")
        targets = set()
        for table in declared.values():
            for state, choices in table.items():
                led_to = {target for way in choices.values() for target in way}
                targets |= led_to - {state}
                if not {state, *led_to} <= set(states):
                    yield Finding(place, f"leads from {state} to a state that is none")
        if not targets.issuperset(states[1:]):
            yield Finding(place, "has a state, and not the first, to which no other leads")


def actions_are_operations(bundle: SchemaNode) -> Iterator[Finding]:
    """What `OrderStatus` allows are the `OrderAction`s: `pay` is `pay_order`.

    Its success links to `get_order`, and to exactly the actions that its states allow.
    """
    by_id = {operation.node.get("operationId"): operation for operation in operations(bundle)}
    for place, schema in schemas(bundle):
        name = re.fullmatch(r"components/schemas/(\w+)Status", place)
        if "x-transitions" not in schema:
            continue
        if name is None:
            yield Finding(place, "has x-transitions and is not the status of a resource")
            continue
        allowed: SchemaNode = schema["x-transitions"].get("actions", {})
        used = {action for choices in allowed.values() for action in choices}
        declared = bundle["components"]["schemas"].get(f"{name[1]}Action", {})
        if used != set(declared.get("enum", ())):
            yield Finding(place, f"allows other actions than those of {name[1]}Action")
        resource = re.sub(r"(?<!^)(?=[A-Z])", "_", name[1]).lower()
        operation_ids = {action: f"{action}_{resource}" for action in used}
        for action, operation_id in operation_ids.items():
            operation = by_id.get(operation_id)
            following = {operation_ids[each] for each in _following(allowed, action)}
            if operation is None:
                yield Finding(place, f"allows {action}, and there is no {operation_id}")
            elif _linked(operation) != {f"get_{resource}", *following}:
                yield Finding(operation.place, "has links to other actions than may follow")


def _following(allowed: SchemaNode, action: str) -> set[str]:
    """Return the actions of all states that an action may lead to."""
    targets = {target for choices in allowed.values() for target in choices.get(action, ())}
    return {each for target in targets for each in allowed.get(target, ())}


def _linked(operation: DeclaredOperation) -> set[str]:
    return {
        str(link.get("operationId"))
        for response in operation.successes.values()
        for link in response.get("links", {}).values()
    }
