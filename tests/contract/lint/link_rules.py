"""Rules for links: each fits its target, and following them reaches every operation."""

from collections.abc import Iterator

from api.contract.compile.schemas import SchemaNode, resolve
from tests.contract.lint.access_rules import is_secured
from tests.contract.walk import DeclaredOperation, Finding, operations

ENTRY = "get_root"
"""The operation that every client can start with, because its URL is that of the service."""
SIGN_IN = "create_token"
"""The operation from which links lead to every operation that needs a token."""


def links_lead_somewhere(bundle: SchemaNode) -> Iterator[Finding]:
    """What a link sends fits its target.

    openapi-generator takes a string only for `requestBody`, so members are in `x-request-body`.
    """
    by_id = {operation.node["operationId"]: operation for operation in operations(bundle)}
    for operation in operations(bundle):
        for response in operation.responses.values():
            for name, node in response.get("links", {}).items():
                link = resolve(bundle, node)
                target = by_id.get(link.get("operationId", ""))
                if target is None:
                    yield Finding(operation.place, f"has a link {name} to no operation")
                elif not _fits(link, target):
                    yield Finding(
                        operation.place, f"has a link {name} that does not fit its target"
                    )


def _fits(link: SchemaNode, target: DeclaredOperation) -> bool:
    known = {each["name"] for each in target.parameters}
    sent = {each.rpartition(".")[2] for each in link.get("parameters", {})}
    needed = {each["name"] for each in target.parameters if each["in"] == "path"}
    members = (target.body or {}).get("properties", {})
    return (
        needed <= sent <= known
        and link.get("x-request-body", {}).keys() <= members.keys()
        and link.keys() <= {"operationId", "description", "parameters", "x-request-body"}
    )


def links_reach_every_operation(bundle: SchemaNode) -> Iterator[Finding]:
    """A client that knows the URL of the service finds all it can do by following links."""
    targets = {
        operation.node["operationId"]: set(_targets(bundle, operation))
        for operation in operations(bundle)
    }
    from_entry, from_sign_in = _reached(targets, ENTRY), _reached(targets, SIGN_IN)
    for operation in operations(bundle):
        name = operation.node["operationId"]
        if name not in from_entry:
            yield Finding(operation.place, f"is not reached along links from {ENTRY}")
        elif is_secured(operation) and name not in from_sign_in:
            yield Finding(operation.place, f"is not reached along links from {SIGN_IN}")


def _targets(bundle: SchemaNode, operation: DeclaredOperation) -> Iterator[str]:
    for response in operation.responses.values():
        for link in response.get("links", {}).values():
            yield resolve(bundle, link).get("operationId", "")


def _reached(targets: dict[str, set[str]], start: str) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        following = targets.get(waiting.pop(), set()) - found
        found |= following
        waiting += following
    return found
