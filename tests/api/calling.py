"""The operations of the contract as clients can call them: made from its paths and examples.

The document is read here by itself, not through the engine, so that what the engine makes of
`security` is held against what the document says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from api.contract.document import load_document
from api.contract.schemas import SchemaNode, resolve

_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_OWNED = "{user_id}"


@dataclass(frozen=True)
class Operation:
    """One operation: what it needs, and a request that it should take.

    `scopes` is None where no token is needed. An operation `is_owned` when its path names an
    account, which then is the resource that belongs to somebody.
    """

    id: str
    method: str
    path: str
    scopes: frozenset[str] | None
    success: int
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None

    @property
    def is_owned(self) -> bool:
        """Whether the path names an account."""
        return _OWNED in self.path

    def call(
        self,
        client: httpx.Client,
        headers: Mapping[str, str],
        *,
        user_id: int,
        members: Mapping[str, object],
    ) -> httpx.Response:
        """Send the example; `members` stand for those of the body that have to be other ones."""
        body = self.body and {name: members.get(name, value) for name, value in self.body.items()}
        return client.request(
            self.method,
            self.path.replace(_OWNED, str(user_id)),
            params=self.query,
            json=body,
            headers=headers,
        )


def operations() -> list[Operation]:
    """Every operation of the contract."""
    bundle = load_document(Path(__file__).parents[2] / "openapi").bundle
    return [
        _operation(bundle, path, method, item)
        for path, item in bundle["paths"].items()
        for method in item
        if method in _METHODS
    ]


def _operation(bundle: SchemaNode, path: str, method: str, item: SchemaNode) -> Operation:
    declared = item[method]
    nodes = [*item.get("parameters", []), *declared.get("parameters", [])]
    parameters = [resolve(bundle, node) for node in nodes]
    for parameter in parameters:
        place = f"{{{parameter['name']}}}"
        if parameter["in"] == "path" and place != _OWNED:
            path = path.replace(place, str(parameter["example"]))
    security = declared.get("security", bundle["security"])
    return Operation(
        id=declared["operationId"],
        method=method.upper(),
        path=path,
        scopes=frozenset(security[0]["bearer"]) if security else None,
        success=min(int(status) for status in declared["responses"] if int(status) < 400),
        query={
            parameter["name"]: str(parameter["example"])
            for parameter in parameters
            if parameter["in"] == "query" and parameter["required"]
        },
        body=_example(bundle, declared),
    )


def _example(bundle: SchemaNode, declared: SchemaNode) -> Mapping[str, object] | None:
    if "requestBody" not in declared:
        return None
    body = resolve(bundle, declared["requestBody"])
    schema = resolve(bundle, body["content"]["application/json"]["schema"])
    example: Mapping[str, object] = schema["example"]
    return example
