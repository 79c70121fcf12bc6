"""Mistakes in a valid OpenAPI document that prevent the engine from serving it.

The checks run before compilation, so that the author of the document gets one line with the
location of the mistake instead of a traceback.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from api.contract.compile.operations import (
    REDIRECT,
    TRANSACTIONS,
    declared_operations,
    path_names,
)
from api.contract.compile.schemas import SchemaNode
from api.contract.engine_errors import Mistake

Place: TypeAlias = tuple[str, ...]
ScopeFault: TypeAlias = Callable[[Sequence[str]], str | None]

_NOT_DECLARED = ("head", "options", "trace")
_SCHEMAS = ("Problem", "RequestId")
_ALTERNATIVES = ("oneOf", "anyOf")


def mistakes(bundle: SchemaNode, scope_fault: ScopeFault) -> Iterator[Mistake]:
    """Yield the mistakes in a bundled document.

    `scope_fault` returns the reason why an operation's scopes are invalid, or None if they are
    valid.
    """
    schemas = bundle.get("components", {}).get("schemas", {})
    for name in _SCHEMAS:
        if name not in schemas:
            reason = f"the engine needs components/schemas/{name}.yaml; add it"
            yield Mistake(("components", "schemas"), reason)
    for path, item in bundle["paths"].items():
        for method in _NOT_DECLARED:
            if method in item:
                reason = "the engine handles HEAD, OPTIONS and TRACE itself; remove it"
                yield Mistake(("paths", path, method), reason)
        yield from _segments(path)
        yield from _parameters(bundle, ("paths", path), item)
    yield from _security(bundle, ("security",), bundle.get("security", []), scope_fault)
    paths: dict[str, str] = {}
    for path, method, declared in declared_operations(bundle):
        place = ("paths", path, method)
        operation_id = str(declared.get("operationId", ""))
        if not operation_id:
            yield Mistake(place, "has no operationId; name the function that handles it")
        if operation_id in paths:
            yield Mistake(place, f"the operationId {operation_id} is not unique; choose another")
        paths[operation_id] = path
        own = bundle["paths"][path][method]
        yield from _tags(bundle, place, own)
        yield from _security(bundle, (*place, "security"), own.get("security", []), scope_fault)
        yield from _member_scopes(place, own, scope_fault)
        yield from _engine_keys(place, declared)
        yield from _parameters(bundle, place, own)
        yield from _path_parameters(bundle, place, path, declared)
        yield from _body(bundle, place, declared)
    seen: set[Place] = set()
    for path, method, declared in declared_operations(bundle):
        yield from _responses(bundle, ("paths", path, method, "responses"), declared, paths, seen)


def _tags(bundle: SchemaNode, place: Place, declared: SchemaNode) -> Iterator[Mistake]:
    known = [tag["name"] for tag in bundle.get("tags", ())]
    if not declared.get("tags"):
        yield Mistake(place, "has no tag; name the tag whose module handles it")
    for index, tag in enumerate(declared.get("tags", ())):
        if tag not in known:
            reason = f"the tag {tag} is not declared; add it to tags in openapi.yaml"
            yield Mistake((*place, "tags", str(index)), reason)


def _security(
    bundle: SchemaNode, place: Place, requirements: list[SchemaNode], scope_fault: ScopeFault
) -> Iterator[Mistake]:
    schemes = bundle.get("components", {}).get("securitySchemes", {})
    if sum(len(requirement) for requirement in requirements) > 1:
        yield Mistake(
            place, "only one scheme is supported, optionally beside {}; remove the others"
        )
    for index, requirement in enumerate(requirements):
        for name, wanted in requirement.items():
            there = (*place, str(index), name)
            if name not in schemes:
                reason = f"there is no components/securitySchemes/{name}.yaml; add it"
                yield Mistake(there, reason)
            elif not _is_readable(schemes[name]):
                reason = "only http schemes and apiKey in a header are supported; change it"
                yield Mistake(("components", "securitySchemes", name), reason)
            if fault := scope_fault(wanted):
                yield Mistake(there, fault)


def _member_scopes(
    place: Place, declared: SchemaNode, scope_fault: ScopeFault
) -> Iterator[Mistake]:
    for index, required in enumerate(declared.get("x-requires-scopes", ())):
        if fault := scope_fault(required["scopes"]):
            yield Mistake((*place, "x-requires-scopes", str(index)), fault)


def _is_readable(scheme: SchemaNode) -> bool:
    return scheme["type"] == "http" or (scheme["type"], scheme.get("in")) == ("apiKey", "header")


def _engine_keys(place: Place, declared: SchemaNode) -> Iterator[Mistake]:
    key = "x-engine-transaction"
    if key in declared and declared[key] not in TRANSACTIONS:
        yield Mistake((*place, key), f"use one of {', '.join(TRANSACTIONS)}")
    for index, limit in enumerate(declared.get("x-rate-limit", ())):
        for name in ("name", "limit", "window", "per"):
            if name not in limit:
                yield Mistake((*place, "x-rate-limit", str(index)), f"has no {name}; add it")


def _segments(path: str) -> Iterator[Mistake]:
    for segment in path.split("/"):
        if "{" in segment and not re.fullmatch(r"\{[^{}]+\}", segment):
            yield Mistake(("paths", path), f"a parameter must fill its segment; split {segment}")


def _parameters(bundle: SchemaNode, place: Place, declared: SchemaNode) -> Iterator[Mistake]:
    for index, node in enumerate(declared.get("parameters", ())):
        there, parameter = _follow(bundle, (*place, "parameters", str(index)), node)
        if parameter["in"] == "cookie":
            yield Mistake(there, "cookie parameters are not supported; use a header")
        elif "schema" not in parameter:
            yield Mistake(there, "has no schema; add one")


def _path_parameters(
    bundle: SchemaNode, place: Place, path: str, declared: SchemaNode
) -> Iterator[Mistake]:
    parameters = [_follow(bundle, place, node)[1] for node in declared["parameters"]]
    names = [parameter["name"] for parameter in parameters if parameter["in"] == "path"]
    for name in path_names(path):
        if name not in names:
            yield Mistake(place, f"has no path parameter {name!r}; declare it")


def _body(bundle: SchemaNode, place: Place, declared: SchemaNode) -> Iterator[Mistake]:
    if "requestBody" in declared:
        place, body = _follow(bundle, (*place, "requestBody"), declared["requestBody"])
        for media_type, content in body["content"].items():
            if "schema" not in content:
                yield Mistake((*place, "content", media_type), "has no schema; add one")


def _responses(
    bundle: SchemaNode,
    place: Place,
    declared: SchemaNode,
    paths: Mapping[str, str],
    seen: set[Place],
) -> Iterator[Mistake]:
    for status, node in declared["responses"].items():
        if not status.isdecimal():
            yield Mistake(
                (*place, status), "is not a single status; declare each status by its number"
            )
        there, response = _follow(bundle, (*place, status), node)
        for media_type, content in response.get("content", {}).items():
            if "schema" not in content:
                yield Mistake((*there, "content", media_type), "has no schema; add one")
                continue
            schema = (*there, "content", media_type, "schema")
            yield from _alternatives(bundle, schema, content["schema"], seen)
        if "Location" in response.get("headers", {}) and status != str(REDIRECT):
            yield from _location(bundle, there, response, paths)
    if not any(status[0] in "123" for status in declared["responses"]):
        yield Mistake(place, "no success status; declare the one that the handler returns")


def _location(
    bundle: SchemaNode, place: Place, response: SchemaNode, paths: Mapping[str, str]
) -> Iterator[Mistake]:
    if "self" not in response.get("links", {}):
        reason = "needs a link self to say where it leads; add it with an operationId"
        yield Mistake((*place, "headers", "Location"), reason)
        return
    place, link = _follow(bundle, (*place, "links", "self"), response["links"]["self"])
    path = paths.get(link.get("operationId", ""))
    if path is None:
        yield Mistake(place, "names no operation; set operationId to an existing one")
        return
    given = [name.removeprefix("path.") for name in link.get("parameters", {})]
    for name in path_names(path):
        if name not in given:
            yield Mistake(place, f"lacks the parameter {name} of {path}; add it")


def _alternatives(
    bundle: SchemaNode, place: Place, node: SchemaNode, seen: set[Place]
) -> Iterator[Mistake]:
    """Find schemas that leave the properties of an object open."""
    place, node = _follow(bundle, place, node)
    if place in seen:
        return
    seen.add(place)
    for keyword in _ALTERNATIVES:
        if keyword in node:
            reason = f"responses may not use {keyword}; declare one object with optional properties"
            yield Mistake((*place, keyword), reason)
    for name, schema in node.get("properties", {}).items():
        yield from _alternatives(bundle, (*place, "properties", name), schema, seen)
    for index, schema in enumerate(node.get("allOf", ())):
        yield from _alternatives(bundle, (*place, "allOf", str(index)), schema, seen)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from _alternatives(bundle, (*place, key), node[key], seen)


def _follow(bundle: SchemaNode, place: Place, node: SchemaNode) -> tuple[Place, SchemaNode]:
    """Resolve references, and return the resolved node with its own location."""
    while "$ref" in node:
        place = tuple(str(node["$ref"]).removeprefix("#/").split("/"))
        target: SchemaNode = bundle
        for name in place:
            target = target[name]
        node = target
    return place, node
