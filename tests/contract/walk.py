"""Ways through a bundled contract, for the rules that hold it to its conventions."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from api.contract.compile.operations import METHODS
from api.contract.compile.published import WEBHOOKS
from api.contract.compile.schemas import SchemaNode, resolve

EXAMPLES = ("example", "examples")


class Finding(NamedTuple):
    """Something in the contract that breaks a rule."""

    place: str
    reason: str


@dataclass(frozen=True)
class DeclaredOperation:
    """An operation as it is declared, with what it shares with the others of its path."""

    bundle: SchemaNode
    path: str
    method: str
    node: SchemaNode

    @property
    def place(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @cached_property
    def parameters(self) -> list[SchemaNode]:
        shared = self.bundle["paths"][self.path].get("parameters", [])
        return [resolve(self.bundle, node) for node in [*shared, *self.node.get("parameters", [])]]

    @cached_property
    def responses(self) -> dict[int, SchemaNode]:
        declared = self.node["responses"].items()
        return {int(status): resolve(self.bundle, node) for status, node in declared}

    @property
    def successes(self) -> dict[int, SchemaNode]:
        """What the operation answers when it does what it is for; 304 is not that."""
        return {
            status: response
            for status, response in self.responses.items()
            if status < 400 and status != 304
        }

    @property
    def body(self) -> SchemaNode | None:
        """The JSON schema of the request's body."""
        content = self.node.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        return schema and resolve(self.bundle, schema)

    def takes(self, location: str, name: str) -> bool:
        return any(
            parameter["in"] == location and parameter["name"] == name
            for parameter in self.parameters
        )


def is_file(schema: SchemaNode) -> bool:
    """Whether the value is a file. Its example would be shown as text, which is no such file."""
    return schema.get("type") == "string" and schema.get("format") == "binary"


def is_upload_form(bundle: SchemaNode, schema: SchemaNode) -> bool:
    """Whether a value is a form of files only."""
    parts = [resolve(bundle, each) for each in schema.get("properties", {}).values()]
    return bool(parts) and all(map(is_file, parts))


def broken(bundle: SchemaNode, change: SchemaNode) -> SchemaNode:
    """Return the contract after one operation of JSON Patch (RFC 6902)."""
    result = deepcopy(bundle)
    way = [key.replace("~1", "/").replace("~0", "~") for key in change["path"].split("/")[1:]]
    parent: Any = result
    for key in way[:-1]:
        parent = parent[int(key) if isinstance(parent, list) else key]
    last = int(way[-1]) if isinstance(parent, list) else way[-1]
    if change["op"] == "remove":
        del parent[last]
    else:
        parent[last] = change["value"]
    return result


def operations(bundle: SchemaNode) -> Iterator[DeclaredOperation]:
    for path, item in bundle["paths"].items():
        for method in METHODS:
            if method in item:
                yield DeclaredOperation(bundle, path, method, item[method])


def components(bundle: SchemaNode, kind: str) -> Iterator[tuple[str, SchemaNode]]:
    """Yield each component of a kind with its place."""
    for name, node in bundle["components"].get(kind, {}).items():
        yield f"components/{kind}/{name}", node


def schemas(bundle: SchemaNode) -> Iterator[tuple[str, SchemaNode]]:
    """Yield every schema that is written out, at any depth, with its place."""
    for place, schema in components(bundle, "schemas"):
        yield from _within(place, schema)
    for place, holder in holders(bundle):
        yield from _within(f"{place}/schema", holder["schema"])


def holders(bundle: SchemaNode) -> Iterator[tuple[str, SchemaNode]]:
    """Yield what has a schema and is none: parameters, headers and media types."""
    for kind in ("paths", WEBHOOKS):
        yield from _holders(kind, bundle.get(kind, {}))
    for kind in ("parameters", "headers", "responses", "requestBodies"):
        yield from _holders(f"components/{kind}", bundle["components"].get(kind, {}))


def schemas_sent(bundle: SchemaNode, *, by_client: bool) -> Iterator[tuple[str, SchemaNode]]:
    """Yield every schema of request bodies (`by_client`), or else of JSON responses."""
    names: set[str] = set()
    for operation in operations(bundle):
        parts = [operation.node.get("requestBody", {})]
        if not by_client:
            parts = [response.get("content", {}) for response in operation.responses.values()]
        for part in parts:
            names.update(_schema_names(bundle, part))
            for place, holder in _holders(operation.place, part):
                yield from _within(f"{place}/schema", holder["schema"])
    for name in sorted(names):
        schema = bundle["components"]["schemas"][name]
        yield from _within(f"components/schemas/{name}", schema)


def references(node: object) -> Iterator[str]:
    """Yield what a part of the contract refers to itself."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield str(value)
            elif key != "example":
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def reachable(bundle: SchemaNode, node: object) -> set[str]:
    """Return all that a part of the contract refers to, over any number of steps."""
    found: set[str] = set()
    waiting = list(references(node))
    while waiting:
        reference = waiting.pop()
        if reference not in found:
            found.add(reference)
            waiting.extend(references(resolve(bundle, {"$ref": reference})))
    return found


def _schema_names(bundle: SchemaNode, node: object) -> set[str]:
    prefix = "#/components/schemas/"
    return {name.removeprefix(prefix) for name in reachable(bundle, node) if prefix in name}


def _holders(place: str, node: object) -> Iterator[tuple[str, SchemaNode]]:
    if isinstance(node, dict):
        if "schema" in node:
            yield place, node
        for key, value in node.items():
            if key not in ("schema", *EXAMPLES):
                yield from _holders(f"{place}/{key}", value)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _holders(f"{place}/{index}", item)


def _within(place: str, schema: SchemaNode) -> Iterator[tuple[str, SchemaNode]]:
    if "$ref" in schema:
        return
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _within(f"{place}/properties/{name}", inner)
    for key in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(key), dict):
            yield from _within(f"{place}/{key}", schema[key])
    for key in ("allOf", "anyOf", "oneOf"):
        for index, inner in enumerate(schema.get(key, ())):
            yield from _within(f"{place}/{key}/{index}", inner)
