"""The operations of the contract as clients can call them: made from its paths and examples.

The document is read here by itself, not through the engine, so that what the engine makes of
`security` is held against what the document says.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from api.contract.document import load_document
from api.contract.schemas import SchemaNode, resolve

_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_OWNED = ("{user_id}", "{order_id}", "{token_id}")
_MADE = (*_OWNED, "{product_id}", "{entry_id}")


@dataclass(frozen=True)
class Operation:
    """One operation: what it needs, and a request that it should take.

    `scopes` is None where no token is needed; where it `is_open` a token may be left out. `members`
    are those that its body may have, `parameters` the names of all others. An operation
    `is_owned` when its path names an account, an order or a token: what belongs to somebody.
    """

    id: str
    tag: str
    method: str
    path: str
    scopes: frozenset[str] | None
    is_open: bool
    success: int
    takes_key: bool
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    members: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()

    @property
    def is_owned(self) -> bool:
        """Whether the path names something that belongs to somebody."""
        return any(name in self.path for name in _OWNED)

    def url(self, places: Mapping[str, object]) -> str:
        """The path with what it names, of which `places` may hold more."""
        return self.path.format(**places)

    def call(
        self,
        client: httpx.Client,
        headers: Mapping[str, str],
        *,
        places: Mapping[str, object],
        members: Mapping[str, object],
    ) -> httpx.Response:
        """Send the example; `members` stand for those of the body that have to be other ones.

        A key for repetitions is new each time.
        """
        body = self.body and {name: members.get(name, value) for name, value in self.body.items()}
        key = {"Idempotency-Key": uuid.uuid4().hex} if self.takes_key else {}
        return client.request(
            self.method,
            self.url(places),
            params=self.query,
            json=body,
            headers={**key, **headers},
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
        if parameter["in"] == "path" and place not in _MADE:
            path = path.replace(place, str(parameter["example"]))
    security, body = declared.get("security", bundle["security"]), _body(bundle, declared)
    return Operation(
        id=declared["operationId"],
        tag=declared["tags"][0],
        method=method.upper(),
        path=path,
        scopes=frozenset(security[0]["bearer"]) if security else None,
        is_open={} in security,
        takes_key=any(each["name"] == "Idempotency-Key" for each in parameters),
        success=min(int(status) for status in declared["responses"] if int(status) < 400),
        query={
            parameter["name"]: str(parameter["example"])
            for parameter in parameters
            if parameter["in"] == "query" and parameter["required"]
        },
        body=body.get("example"),
        members=frozenset(body.get("properties", ())),
        parameters=frozenset(parameter["name"] for parameter in parameters),
    )


def _body(bundle: SchemaNode, declared: SchemaNode) -> SchemaNode:
    if "requestBody" not in declared:
        return {}
    body = resolve(bundle, declared["requestBody"])
    return resolve(bundle, body["content"]["application/json"]["schema"])
