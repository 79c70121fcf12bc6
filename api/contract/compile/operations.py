"""The contract's operations, each compiled once into a frozen `Operation`.

An `Operation` has everything that a request needs; nothing reads the document after start-up.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from api.contract.compile.admission import (
    RateLimit,
    RequiredScopes,
    RequiredSession,
    Security,
    compile_rate_limit,
    compile_required_scopes,
    compile_required_sessions,
    compile_security,
)
from api.contract.compile.parameters import Parameter, QueryParameters, compile_parameter
from api.contract.compile.request_bodies import (
    JSON_MEDIA_TYPE,
    Body,
    Form,
    compile_body,
    compile_form,
)
from api.contract.compile.schemas import SchemaNode, Validators, flatten, resolve
from api.contract.compile.serializers import Convert, Serializer, compile_serializer
from api.contract.engine_errors import ContractViolation, InsufficientScope, Mistake
from api.contract.strict_json import JSON

METHODS = ("get", "put", "post", "delete", "patch")
HTML_MEDIA_TYPE = "text/html"
REDIRECT: Final = 307
"""The response that sends clients to a store for a file. Its `Location` leads to no operation."""
IDEMPOTENCY_KEY = "idempotency-key"
READS, WRITES = "reads", "writes"
"""The pools of operations that name no other one."""
_OWNERSHIPS = ("owned", "shared", "restricted")
TRANSACTIONS = ("statement", "read", "write", "late-write", "none")


@dataclass(frozen=True, slots=True)
class Link:
    """Target of a `Location` header: an operation's path, filled in with values of the response."""

    path: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """A declared response: its headers, its media types and the serializer of its JSON."""

    status: int
    headers: Mapping[str, SchemaNode]
    media_types: tuple[str, ...]
    serialize: Serializer | None
    location: Link | None
    fixed_headers: Mapping[str, str]
    caching: tuple[str, str] | None
    """Values of `Cache-Control` for requests without and with credentials, if they differ."""
    staleness: float
    """Maximum age in seconds of the state that a request without credentials may read."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A compiled operation of the contract.

    `security` is None for a public operation, which ignores credentials. If `anonymous` is true,
    credentials are optional, but those sent must be valid. `pool` names the thread pool of the
    handler (`inline`: the event loop), and `pool_given` the body member without which the pool of
    reads or writes is used instead. `transaction` is `read` (a snapshot), `statement` (a read of
    one statement), `write`, `late-write` (SQLite takes the write lock at the first change) or
    `none`.
    """

    id: str
    tag: str
    method: str
    path: str
    security: Security | None
    anonymous: bool
    path_parameters: tuple[Parameter, ...]
    query: QueryParameters
    headers: Mapping[str, Parameter]
    body: Body | None
    form: Form | None
    rate_limits: tuple[RateLimit, ...]
    required_scopes: tuple[RequiredScopes, ...]
    required_sessions: tuple[RequiredSession, ...]
    responses: Mapping[int, Response]
    success: Response
    pool: str
    pool_given: str | None
    transaction: str
    is_quiet: bool
    """Whether its requests are logged at the level debug, as those of health checks are."""
    wait: str | None
    """What the operation waits for (`Ports.waits`), before it takes a thread."""

    @property
    def place(self) -> tuple[str, ...]:
        """The operation's location in the bundle."""
        return ("paths", self.path, self.method.lower())

    @property
    def scopes(self) -> tuple[str, ...] | None:
        """Required scopes; None if the operation ignores credentials."""
        return None if self.security is None else self.security.scopes

    @property
    def has_etag(self) -> bool:
        """Whether the success response has an `ETag`."""
        return "ETag" in self.success.headers

    @property
    def takes_idempotency_key(self) -> bool:
        """Whether the operation accepts an `Idempotency-Key`, which makes retries safe."""
        return IDEMPOTENCY_KEY in self.headers

    @property
    def is_page(self) -> bool:
        """Whether the operation returns one page of a list."""
        return "cursor" in self.query.by_name

    def pool_for(self, body: JSON) -> str:
        """Return the thread pool for a request with this body."""
        if self.pool_given is None or (isinstance(body, dict) and self.pool_given in body):
            return self.pool
        return _default_pool(self.transaction)

    def require_scopes(self, held: frozenset[str], body: JSON = None) -> None:
        """Check that a token's scopes include all that the operation and the body require.

        Raises:
            InsufficientScope: a required scope is missing.
        """
        needed = self.scopes or ()
        for required in self.required_scopes:
            needed += required.of(body)
        if not held.issuperset(needed):
            raise InsufficientScope(needed, held)


def compile_operations(bundle: SchemaNode, validators: Validators) -> tuple[Operation, ...]:
    """Compile every operation of a valid, bundled document.

    Raises:
        Mistake: an operation cannot be compiled.
    """
    declared = tuple(declared_operations(bundle))
    paths = {operation["operationId"]: path for path, _, operation in declared}
    compiled, seen = [], dict[str, Convert]()
    for path, method, operation in declared:
        try:
            compiled.append(_compile(bundle, path, method, operation, validators, paths, seen))
        except ContractViolation as violation:
            raise Mistake(("paths", path, method), str(violation)) from violation
    _require_agreement(compiled)
    return tuple(compiled)


def _require_agreement(operations: Iterable[Operation]) -> None:
    """Check that operations that share a limit declare it alike."""
    shared: dict[str, RateLimit] = {}
    for operation in operations:
        for limit in operation.rate_limits:
            alike = replace(limit, given=None)
            if limit.shared and shared.setdefault(limit.name, alike) != alike:
                reason = f"declares the shared limit {limit.name} unlike another operation"
                raise Mistake(operation.place, f"{operation.id} {reason}")


def declared_operations(bundle: SchemaNode) -> Iterator[tuple[str, str, SchemaNode]]:
    """Yield each operation's path, method and declaration, with the path's parameters added."""
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
    seen: dict[str, Convert],
) -> Operation:
    parameters = [
        compile_parameter(_with_schema(bundle, node), validators) for node in declared["parameters"]
    ]
    placed = {parameter.name: parameter for parameter in parameters if parameter.location == "path"}
    stated = declared if "security" in declared else bundle
    requirements: list[SchemaNode] = stated.get("security", [])
    if requirements:
        _require_ownership(bundle, declared)
    responses = {
        int(status): _compile_response(bundle, int(status), resolve(bundle, node), paths, seen)
        for status, node in declared["responses"].items()
    }
    success = min(status for status in responses if status < HTTPStatus.BAD_REQUEST)
    transaction = declared.get("x-engine-transaction", "read" if method == "get" else "write")
    pool_given = declared.get("x-engine-pool-when-given")
    return Operation(
        id=declared["operationId"],
        tag=declared["tags"][0],
        method=method.upper(),
        path=path,
        security=compile_security(bundle, requirements),
        anonymous=not all(requirements),
        path_parameters=tuple(placed[name] for name in path_names(path)),
        query=QueryParameters(
            {p.name: p for p in parameters if p.location == "query"},
            ignores_others=success == HTTPStatus.SEE_OTHER
            or HTML_MEDIA_TYPE in responses[success].media_types,
        ),
        headers={p.name.lower(): p for p in parameters if p.location == "header"},
        body=compile_body(bundle, method, declared, validators),
        form=compile_form(bundle, declared, validators),
        rate_limits=tuple(map(compile_rate_limit, declared.get("x-rate-limit", ()))),
        required_scopes=compile_required_scopes(declared.get("x-requires-scopes", ())),
        required_sessions=compile_required_sessions(declared.get("x-requires-session", ())),
        responses=responses,
        success=responses[success],
        pool=declared.get("x-engine-pool", _default_pool(transaction)),
        pool_given=pool_given and str(pool_given).removeprefix("#/"),
        transaction=transaction,
        is_quiet=declared.get("x-engine-log") == "debug",
        wait=declared.get("x-engine-wait"),
    )


def _default_pool(transaction: str) -> str:
    return WRITES if "write" in transaction else READS


def _require_ownership(bundle: SchemaNode, declared: SchemaNode) -> None:
    """Check that each path parameter of a secured operation declares its ownership.

    An `owned` resource belongs to one account and does not exist for all others, a `shared` one is
    for every caller of the operation, and a `restricted` one is for administrators. The engine
    itself does not use these values: permission tests read them, so that no path is left untested.
    """
    for node in declared["parameters"]:
        parameter = resolve(bundle, node)
        if parameter["in"] == "path" and parameter.get("x-ownership") not in _OWNERSHIPS:
            raise ContractViolation(
                f"{declared['operationId']}: the path parameter {parameter['name']} needs"
                f" x-ownership: one of {', '.join(_OWNERSHIPS)}"
            )


def path_names(path: str) -> list[str]:
    """Return the names of a path's parameters, in order."""
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _with_schema(bundle: SchemaNode, node: SchemaNode) -> SchemaNode:
    parameter = resolve(bundle, node)
    return {**parameter, "schema": flatten(bundle, parameter["schema"])}


def _compile_response(
    bundle: SchemaNode,
    status: int,
    declared: SchemaNode,
    paths: Mapping[str, str],
    seen: dict[str, Convert],
) -> Response:
    headers = {name: resolve(bundle, node) for name, node in declared.get("headers", {}).items()}
    content = declared.get("content", {})
    json_schema = content.get(JSON_MEDIA_TYPE, {}).get("schema")
    return Response(
        status=status,
        headers=headers,
        media_types=tuple(content),
        serialize=compile_serializer(bundle, json_schema, seen) if json_schema else None,
        location=_compile_location(bundle, declared, paths)
        if "Location" in headers and status != REDIRECT
        else None,
        fixed_headers=_fixed_headers(bundle, headers),
        caching=_caching(headers),
        staleness=headers.get("Cache-Control", {}).get("x-engine-staleness", 0),
    )


def _fixed_headers(bundle: SchemaNode, headers: Mapping[str, SchemaNode]) -> dict[str, str]:
    """Return the required headers with a default, which the engine sends itself."""
    schemas = {
        name: resolve(bundle, node["schema"])
        for name, node in headers.items()
        if node.get("required")
    }
    return {name: str(schema["default"]) for name, schema in schemas.items() if "default" in schema}


def _caching(headers: Mapping[str, SchemaNode]) -> tuple[str, str] | None:
    """Return the two values of `x-engine-caching`: `Cache-Control` without and with a token."""
    match headers.get("Cache-Control", {}).get("x-engine-caching"):
        case [anonymous, personal]:
            return str(anonymous), str(personal)
    return None


def _compile_location(bundle: SchemaNode, declared: SchemaNode, paths: Mapping[str, str]) -> Link:
    """Compile `Location` from the link `self`, whose parameters look like `$response.body#/id`."""
    link = resolve(bundle, declared["links"]["self"])
    attributes = {
        name.removeprefix("path."): str(expression).removeprefix("$response.body#/")
        for name, expression in link.get("parameters", {}).items()
    }
    return Link(paths[link["operationId"]], attributes)
