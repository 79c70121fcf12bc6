"""From a path as it came over the wire to the operations that the contract has there.

Paths without parameters are found in one dictionary; the others in a tree of segments. The cost
is that of the path's own segments and does not grow with the number of paths (a test counts it).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from api.contract.operations import Operation
from api.contract.parameters import Parameter

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Resource:
    """One path of the contract: its operations by method, and the `Allow` header's value."""

    path: str
    operations: dict[str, Operation]
    allow: str

    @property
    def path_parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the path, which all its operations share."""
        return next(iter(self.operations.values())).path_parameters


@dataclass(frozen=True, slots=True)
class Match:
    """A resource and the decoded segments that stand for its path parameters."""

    resource: Resource
    values: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    resource: Resource | None = None
    rest: Resource | None = None


class Router:
    """Finds the resource of a path."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        self._static: dict[bytes, Match] = {}
        self._root = _Node()
        self.resources = tuple(
            Resource(path, methods, _allow(methods)) for path, methods in by_path.items()
        )
        for resource in self.resources:
            self._add(resource)

    def _add(self, resource: Resource) -> None:
        if "{" not in resource.path:
            match = Match(resource, ())
            self._static[resource.path.encode()] = match
            # One trailing slash is the same resource; answering it here needs no redirect, whose
            # Location would have to repeat what the client said of the host.
            self._static[resource.path.rstrip("/").encode() + b"/"] = match
        parameters = resource.path_parameters
        takes_rest = bool(parameters) and parameters[-1].is_path
        segments = resource.path[1:].split("/")
        node = self._root
        for segment in segments[:-1] if takes_rest else segments:
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if takes_rest:
            node.rest = resource
        else:
            node.resource = resource

    def match(self, raw_path: bytes) -> Match | None:
        """Return what stands at a raw, percent-encoded path, or None.

        Segments are split before they are decoded, so that an encoded slash is part of a value
        and never a boundary (RFC 3986, section 2.2). A path that is not UTF-8, or that holds
        control characters, leads nowhere.
        """
        found = self._static.get(raw_path)
        if found is not None:
            return found
        if not raw_path.startswith(b"/"):
            return None
        segments = raw_path[1:].split(b"/")
        if not segments[-1]:
            segments.pop()
        if b"" in segments:
            return None
        try:
            decoded = [_decode(segment) for segment in segments]
        except ValueError:
            return None
        return _walk(self._root, decoded, 0, ())


def _walk(node: _Node, segments: list[str], index: int, values: tuple[str, ...]) -> Match | None:
    if index == len(segments):
        return Match(node.resource, values) if node.resource else None
    segment = segments[index]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _walk(literal, segments, index + 1, values)
        if found is not None:
            return found
    if node.parameter is not None:
        found = _walk(node.parameter, segments, index + 1, (*values, segment))
        if found is not None:
            return found
    rest = segments[index:]
    if node.rest is None or any(part in (".", "..") or "/" in part for part in rest):
        # A path in a path climbs nowhere, and has no separators but those that everybody sees.
        return None
    return Match(node.rest, (*values, "/".join(rest)))


def _decode(segment: bytes) -> str:
    if b"%" in segment:
        if segment.count(b"%") != len(_ESCAPE.findall(segment)):
            raise ValueError("a percent sign that escapes nothing")
        segment = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), segment)
    text = segment.decode("utf-8", "strict")
    if _CONTROL.search(text):
        raise ValueError("a control character")
    return text


def _allow(methods: Iterable[str]) -> str:
    implied = {"OPTIONS", *(["HEAD"] if "GET" in methods else [])}
    return ", ".join(sorted({*methods, *implied}))
