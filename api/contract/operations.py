"""The contract's operations, each compiled once into a frozen `Operation`.

Everything that a request needs to know about its operation is an attribute here; nothing of the
document is looked at again after start-up.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from api.contract.normalisers import Normalise, compile_normaliser
from api.contract.parameters import Parameter, QueryParameters, compile_parameter
from api.contract.schemas import SchemaNode, Validator, Validators, flatten, resolve
from api.contract.serializers import Serializer, compile_serializer
from api.contract.sizes import largest_body

METHODS = ("get", "put", "post", "delete", "patch")
JSON_MEDIA_TYPE = "application/json"
HTML_MEDIA_TYPE = "text/html"
IDEMPOTENCY_KEY = "idempotency-key"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`limit` requests in `window` seconds, counted per address, per caller or per body member.

    `member` is the body's member that is counted by, if any; `given` one without which a
    request is not counted. With `known_apart` an address from which a request succeeded is
    counted apart from all others for that member's value. `fail_closed` says that a request is
    refused (503) when the counters cannot be reached; otherwise it goes on uncounted.
    """

    name: str
    limit: int
    window: int
    per: str
    member: str | None
    given: str | None
    known_apart: bool
    fail_closed: bool

    @property
    def needs_body(self) -> bool:
        """Whether a request can be counted only once its body is known."""
        return self.member is not None or self.given is not None


@dataclass(frozen=True, slots=True)
class Link:
    """Where an answer's `Location` leads: an operation's path, filled in from the answer."""

    path: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Body:
    """The JSON body that an operation takes; `largest` bytes are the most that can be valid."""

    required: bool
    largest: int | None
    validator: Validator
    normalise: Normalise | None


@dataclass(frozen=True, slots=True)
class Response:
    """One declared response: its headers, media types and how its JSON is written."""

    status: int
    headers: Mapping[str, SchemaNode]
    media_types: tuple[str, ...]
    serialize: Serializer | None
    location: Link | None
    fixed_headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the contract, compiled.

    `scopes` is None where no token is looked at; where `anonymous` is true a token may be left
    out, and one that is sent must hold. `pool` names the threads that run the handler
    (`inline`: the event loop itself). `transaction` is `read`, `write`,
    `late-write` (SQLite's turn to write comes at the first change) or `none`.
    """

    id: str
    tag: str
    method: str
    path: str
    scopes: tuple[str, ...] | None
    anonymous: bool
    path_parameters: tuple[Parameter, ...]
    query: QueryParameters
    headers: Mapping[str, Parameter]
    body: Body | None
    rate_limits: tuple[RateLimit, ...]
    responses: Mapping[int, Response]
    success: Response
    pool: str
    transaction: str

    @property
    def has_etag(self) -> bool:
        """Whether its success carries an entity tag."""
        return "ETag" in self.success.headers

    @property
    def takes_idempotency_key(self) -> bool:
        """Whether a request may name itself, so that it can be sent again without harm."""
        return IDEMPOTENCY_KEY in self.headers

    @property
    def is_page(self) -> bool:
        """Whether it answers with one page of a listing."""
        return "cursor" in self.query.by_name


def compile_operations(bundle: SchemaNode, validators: Validators) -> tuple[Operation, ...]:
    """Compile every operation of a bundled, valid document."""
    paths = {declared["operationId"]: path for path, _, declared in _declared(bundle)}
    return tuple(
        _compile(bundle, path, method, declared, validators, paths)
        for path, method, declared in _declared(bundle)
    )


def _declared(bundle: SchemaNode) -> Iterator[tuple[str, str, SchemaNode]]:
    for path, item in bundle["paths"].items():
        for method in METHODS:
            if method in item:
                shared = item.get("parameters", [])
                own = item[method].get("parameters", [])
                yield path, method, {**item[method], "parameters": [*shared, *own]}


def _compile(
    bundle: SchemaNode,
    path: str,
    method: str,
    declared: SchemaNode,
    validators: Validators,
    paths: Mapping[str, str],
) -> Operation:
    parameters = [
        compile_parameter(_with_schema(bundle, node), validators) for node in declared["parameters"]
    ]
    placed = {parameter.name: parameter for parameter in parameters if parameter.location == "path"}
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    responses = {
        int(status): _compile_response(bundle, int(status), resolve(bundle, node), paths)
        for status, node in declared["responses"].items()
    }
    success = min(status for status in responses if status < HTTPStatus.BAD_REQUEST)
    stated = declared if "security" in declared else bundle
    requirements: list[SchemaNode] = stated.get("security", [])
    default_transaction = "read" if method == "get" else "write"
    return Operation(
        id=declared["operationId"],
        tag=declared["tags"][0],
        method=method.upper(),
        path=path,
        scopes=_scopes(requirements),
        anonymous=not all(requirements),
        path_parameters=tuple(placed[name] for name in names),
        query=QueryParameters({p.name: p for p in parameters if p.location == "query"}),
        headers={p.name.lower(): p for p in parameters if p.location == "header"},
        body=_compile_body(bundle, declared, validators),
        rate_limits=tuple(map(_compile_rate_limit, declared.get("x-rate-limit", ()))),
        responses=responses,
        success=responses[success],
        pool=declared.get("x-engine-pool", "requests"),
        transaction=declared.get("x-engine-transaction", default_transaction),
    )


def _with_schema(bundle: SchemaNode, node: SchemaNode) -> SchemaNode:
    parameter = resolve(bundle, node)
    return {**parameter, "schema": flatten(bundle, parameter["schema"])}


def _scopes(requirements: Iterable[SchemaNode]) -> tuple[str, ...] | None:
    """Return the scopes of the one requirement, beside which `{}` may stand: none at all."""
    return next((tuple(each["bearer"]) for each in requirements if each), None)


def _compile_body(bundle: SchemaNode, declared: SchemaNode, validators: Validators) -> Body | None:
    if "requestBody" not in declared:
        return None
    body = resolve(bundle, declared["requestBody"])
    schema = body["content"][JSON_MEDIA_TYPE]["schema"]
    normalise = compile_normaliser(bundle, schema)
    required, largest = bool(body.get("required", False)), largest_body(bundle, schema)
    return Body(required, largest, validators.of(schema), normalise)


def _compile_rate_limit(declared: SchemaNode) -> RateLimit:
    per, given = str(declared["per"]), declared.get("when-given")
    return RateLimit(
        name=declared["name"],
        limit=declared["limit"],
        window=declared["window"],
        per=per,
        member=per.removeprefix("#/") if per.startswith("#/") else None,
        given=given and str(given).removeprefix("#/"),
        known_apart=declared.get("known-apart", False),
        fail_closed=declared.get("when-unavailable", "open") == "closed",
    )


def _compile_response(
    bundle: SchemaNode, status: int, declared: SchemaNode, paths: Mapping[str, str]
) -> Response:
    headers = {name: resolve(bundle, node) for name, node in declared.get("headers", {}).items()}
    content = declared.get("content", {})
    json_schema = content.get(JSON_MEDIA_TYPE, {}).get("schema")
    return Response(
        status=status,
        headers=headers,
        media_types=tuple(content),
        serialize=compile_serializer(bundle, json_schema) if json_schema else None,
        location=_compile_location(bundle, declared, paths) if "Location" in headers else None,
        fixed_headers=_fixed_headers(bundle, headers),
    )


def _fixed_headers(bundle: SchemaNode, headers: Mapping[str, SchemaNode]) -> dict[str, str]:
    """Return the headers that must be there with one value: those the engine sends as declared."""
    schemas = {
        name: resolve(bundle, node["schema"])
        for name, node in headers.items()
        if node.get("required")
    }
    return {
        name: str(schema["enum"][0])
        for name, schema in schemas.items()
        if len(schema.get("enum", ())) == 1
    }


def _compile_location(bundle: SchemaNode, declared: SchemaNode, paths: Mapping[str, str]) -> Link:
    """Read `Location` from the response's link `self`, as `$response.body#/id` tells it."""
    link = resolve(bundle, declared["links"]["self"])
    attributes = {
        name.removeprefix("path."): str(expression).removeprefix("$response.body#/")
        for name, expression in link.get("parameters", {}).items()
    }
    return Link(paths[link["operationId"]], attributes)
