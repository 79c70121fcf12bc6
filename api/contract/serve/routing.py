"""Routing: from a raw path to the operations that the contract declares for it.

Paths without parameters are looked up in a dictionary, all others in a tree of segments. The cost
depends on the length of the path and not on the number of paths (a test counts it).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from api.contract.compile.operations import Operation
from api.contract.compile.parameters import Parameter

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_PATH = 4096
"""Maximum length of a path in bytes; a longer one would take milliseconds and match nothing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A path of the contract: its operations by method, and the value of its `Allow` header."""

    path: str
    operations: dict[str, Operation]
    allow: str

    @property
    def path_parameters(self) -> tuple[Parameter, ...]:
        """The path parameters, which all operations of the path share."""
        return next(iter(self.operations.values())).path_parameters


@dataclass(frozen=True, slots=True)
class Match:
    """A resource, with the decoded segments of its path parameters."""

    resource: Resource
    values: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    resource: Resource | None = None
    rest: Resource | None = None


class Router:
    """Finds the resource for a path."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        self._static: dict[bytes, Match] = {}
        self._root = _Node()
        self.resources = tuple(
            Resource(path, methods, _allow(methods)) for path, methods in by_path.items()
        )
        self.allow = _allow({method for methods in by_path.values() for method in methods})
        """The methods that at least one resource supports, as in an `Allow` header."""
        for resource in self.resources:
            self._add(resource)

    def _add(self, resource: Resource) -> None:
        if "{" not in resource.path:
            match = Match(resource, ())
            self._static[resource.path.encode()] = match
            # A path with one trailing slash is the same resource. A redirect would have to repeat
            # the client's `Host` in its `Location`.
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
        """Return the resource at a raw, percent-encoded path, or None.

        Segments are split before they are decoded, so that an encoded slash is part of a value and
        never a separator (RFC 3986, section 2.2). A path that is not UTF-8 or contains control
        characters matches nothing.
        """
        found = self._static.get(raw_path)
        if found is not None:
            return found
        if not raw_path.startswith(b"/") or len(raw_path) > _LONGEST_PATH:
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
        # A path inside a path must not contain dot segments or encoded slashes.
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
