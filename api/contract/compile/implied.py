"""Implied declarations: adds to the contract what follows from each operation's declarations.

An operation file declares only what is particular to the operation. This module adds the request
ID, the preconditions of resources with an `ETag`, the kinds of error that the declarations imply,
and the headers common to all responses of one kind. It never changes what a file declares.

Components are found by name: a header's own (`Retry-After`), its variant for responses that may
lack it (`OptionalRetryAfter`), `NoStore` for `Cache-Control` (`NoTransform` beside an `ETag`), and
the response `NotModified`. A header without a component is not added.

Only the headers of a deprecated operation have no component, because each has its own values.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property
from typing import Final, NoReturn

from api.contract.compile.operations import METHODS, declared_operations
from api.contract.compile.problem_kinds import PROBLEMS, check_kind, list_codes
from api.contract.compile.problem_responses import ProblemResponses, add_headers
from api.contract.compile.schemas import SchemaNode, resolve
from api.contract.engine_errors import ContractError

NAMED: Final = "x-problems"
"""The operation key that lists its own kinds of error. Clients see the resulting responses."""
DEPRECATED_AT: Final = "x-deprecated-at"
"""Key of the time from which an operation is deprecated."""
SUNSET: Final = "x-sunset"
"""Key of the time from which a deprecated operation may no longer work."""
FIRST: Final = "x-first-operation"
"""Key of a tag: the operation that `GET /` links to for it."""


def add_implied(bundle: SchemaNode, files: Mapping[tuple[str, ...], str]) -> None:
    """Complete a bundled contract in place; `files` maps paths, components and problems to files.

    Raises:
        ContractError: an operation names a kind of error that has no file or is implied, or the
            file of a kind is invalid or unused.
    """
    for slug, kind in bundle[PROBLEMS].items():
        check_kind(files[PROBLEMS, slug], kind)
    responses = ProblemResponses(bundle)
    used = set()
    for path, item in bundle["paths"].items():
        for method in METHODS:
            if method in item:
                operation = _Operation(bundle, files["paths", path], method, item)
                operation.complete(responses)
                used |= operation.kinds
    for slug, kind in bundle[PROBLEMS].items():
        if slug not in used and "implied-by" not in kind:
            reason = f"is unused: name it in {NAMED} or declare implied-by"
            raise ContractError(files[PROBLEMS, slug], "", reason)
    list_codes(bundle)
    _link_tags(bundle)


def _link_tags(bundle: SchemaNode) -> None:
    """Link the responses of `GET /` to the first operation of each tag that names one."""
    summaries = {
        declared.get("operationId"): declared.get("summary", "")
        for _path, _method, declared in declared_operations(bundle)
    }
    for index, tag in enumerate(bundle.get("tags", ())):
        if FIRST not in tag:
            continue
        name = tag.pop(FIRST)
        if name not in summaries:
            place = ("openapi.yaml", f"/tags/{index}/{FIRST}")
            raise ContractError(*place, f"there is no operation {name}; correct the name or add it")
        for response in bundle["paths"]["/"]["get"]["responses"].values():
            if "$ref" not in response:
                link = {"operationId": name, "description": f"{summaries[name]}."}
                response.setdefault("links", {})[name] = link


@dataclass
class _Operation:
    """An operation as its file declares it."""

    bundle: SchemaNode
    file: str
    method: str
    item: SchemaNode

    def complete(self, responses: ProblemResponses) -> None:
        """Add everything that the operation's declarations imply."""
        declared: SchemaNode = self._node["responses"]
        if self._takes("header", "If-Match") or (self.method == "get" and self._has_etag):
            self._take("If-Match")
            self._take("If-None-Match")
        if self.method == "get" and self._has_etag and self._sends("Last-Modified"):
            self._take("If-Modified-Since")
            self._take("If-Unmodified-Since")
        # It comes last, because generated clients keep the order of parameters.
        self._take("X-Request-ID")
        for status, response in declared.items():
            if "$ref" not in response:
                add_headers(self.bundle, response, dict(self._headers(status, response)))
                response["headers"] |= self._deprecation
        for status, kinds in responses.by_status(self.kinds).items():
            declared.setdefault(status, responses.of(kinds))
        if self.method == "get" and self._has_etag and responses.not_modified:
            declared.setdefault("304", responses.not_modified)
        self._node["responses"] = dict(sorted(declared.items()))
        self._node.pop(NAMED, None)

    @cached_property
    def kinds(self) -> set[str]:
        """The kinds of error that the operation may send, both named and implied.

        Raises:
            ContractError: a kind has no file, is named twice, or is both named and implied.
        """
        place = (self.file, f"/{self.method}/{NAMED}")
        kinds = self.bundle[PROBLEMS]
        conditions = set(self._conditions())
        named = self._node.get(NAMED, [])
        if not isinstance(named, list) or len(set(map(str, named))) != len(named):
            raise ContractError(*place, "is not a list of different kinds of error")
        for slug in named:
            if slug not in kinds:
                raise ContractError(*place, f"there is no file problems/{slug}.yaml")
            if kinds[slug].get("implied-by") in conditions:
                reason = f"{slug} is implied by {kinds[slug]['implied-by']}; leave it out"
                raise ContractError(*place, reason)
        implied = (slug for slug, kind in kinds.items() if kind.get("implied-by") in conditions)
        return {*named, *implied}

    @property
    def _node(self) -> SchemaNode:
        node: SchemaNode = self.item[self.method]
        return node

    @property
    def _has_etag(self) -> bool:
        return self._sends("ETag")

    def _sends(self, header: str) -> bool:
        return any(header in each.get("headers", {}) for each in self._node["responses"].values())

    @property
    def _parameters(self) -> set[tuple[str, str]]:
        declared = [*self.item.get("parameters", []), *self._node.get("parameters", [])]
        nodes = (resolve(self.bundle, node) for node in declared)
        return {(node["in"], node["name"]) for node in nodes}

    def _take(self, header: str) -> None:
        """Declare a header parameter, if it has a component."""
        for name, parameter in self.bundle["components"].get("parameters", {}).items():
            reference = {"$ref": f"#/components/parameters/{name}"}
            if parameter["name"] == header and reference not in self._node.get("parameters", ()):
                self._node.setdefault("parameters", []).append(reference)

    def _takes(self, location: str, name: str) -> bool:
        return (location, name) in self._parameters

    def _conditions(self) -> Iterator[str]:
        """Yield the values of `implied-by` that apply to the operation."""
        yield "operation"
        declared = self._node if "security" in self._node else self.bundle
        if any(declared.get("security", ())):
            yield "security"
        if any(location == "path" for location, _ in self._parameters):
            yield "path-parameter"
        if "requestBody" in self._node:
            yield "request-body"
        if any("content" in response for response in self._node["responses"].values()):
            yield "response-body"
        if "x-rate-limit" in self._node:
            yield "rate-limit"
        if self._takes("header", "If-Match"):
            yield "if-match"
        if self._takes("header", "Idempotency-Key"):
            yield "idempotency-key"
        if self._node.get("x-engine-pool") != "inline":
            yield "thread-pool"

    def _headers(self, status: str, response: SchemaNode) -> Iterator[tuple[str, str]]:
        """Yield the implied headers of an inline response, each with its component."""
        yield "X-Request-ID", "X-Request-ID"
        yield "X-Content-Type-Options", "X-Content-Type-Options"
        if status != "204":
            is_versioned = "ETag" in response.get("headers", {})
            yield "Cache-Control", "NoTransform" if is_versioned else "NoStore"
        if self._takes("query", "cursor"):
            yield "Link", "Link"
        if self._takes("header", "Idempotency-Key"):
            yield "Idempotent-Replayed", "Idempotent-Replayed"
        limits = self._node.get("x-rate-limit", [])
        if limits:
            # While the counters are unreachable, an open limit lets requests pass uncounted.
            is_open = any(limit.get("when-unavailable", "open") == "open" for limit in limits)
            yield "RateLimit", "OptionalRateLimit" if is_open else "RateLimit"
            yield "RateLimit-Policy", "RateLimit-Policy"

    @cached_property
    def _deprecation(self) -> SchemaNode:
        """The headers of a deprecated operation: `Deprecation`, `Sunset` and `Link`.

        Raises:
            ContractError: a time or the documentation is missing or invalid.
        """
        if not self._node.get("deprecated"):
            return {}
        since = self._time(DEPRECATED_AT)
        if "externalDocs" not in self._node:
            self._refuse("externalDocs", "is needed to explain why the operation is deprecated")
        relations, url = "deprecation", self._node["externalDocs"]["url"]
        headers = {
            "Deprecation": _fixed_header(
                "When the operation was deprecated, in seconds since 1970 (RFC 9745).",
                f"@{since.timestamp():.0f}",
            )
        }
        if SUNSET in self._node:
            until = self._time(SUNSET)
            if until < since:
                self._refuse(SUNSET, f"is earlier than {DEPRECATED_AT}")
            headers["Sunset"] = _fixed_header(
                "When the operation may stop working (RFC 8594).",
                format_datetime(until.astimezone(UTC), usegmt=True),
            )
            relations = "deprecation sunset"
        text = "The documentation of the deprecation (RFC 8288); for a list, also its next page."
        return headers | {"Link": _fixed_header(text, f'<{url}>; rel="{relations}"')}

    def _time(self, key: str) -> datetime:
        try:
            time = datetime.fromisoformat(self._node[key])
        except (KeyError, TypeError, ValueError):
            time = None
        if time is None or time.tzinfo is None:
            self._refuse(key, "is not a time with an offset, such as 2026-01-31T00:00:00Z")
        return time

    def _refuse(self, key: str, reason: str) -> NoReturn:
        raise ContractError(self.file, f"/{self.method}/{key}", reason)


def _fixed_header(description: str, value: str) -> SchemaNode:
    """Return a header whose default the engine sends with every such response."""
    schema = {"type": "string", "minLength": 1, "maxLength": 4096, "description": description}
    return {
        "description": description,
        "required": True,
        "schema": {**schema, "default": value, "example": value},
        "example": value,
    }
