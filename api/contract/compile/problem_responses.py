"""Problem responses, generated from the contract's kinds of error."""

from collections.abc import Iterable, Mapping

from api.contract.compile.problem_kinds import PROBLEMS
from api.contract.compile.schemas import SchemaNode
from api.contract.engine_errors import ContractError

PROBLEM_MEDIA_TYPE = "application/problem+json"

_HEADERS = {
    "X-Request-ID": "X-Request-ID",
    "X-Content-Type-Options": "X-Content-Type-Options",
    "Cache-Control": "NoStore",
    "RateLimit": "OptionalRateLimit",
    "RateLimit-Policy": "OptionalRateLimitPolicy",
}
"""Headers of shared responses, each with the name of its component."""


def add_headers(bundle: SchemaNode, response: SchemaNode, headers: Mapping[str, str]) -> None:
    """Add headers that have a component to a response, except those that it declares itself."""
    components = bundle["components"].get("headers", {})
    implied = {
        name: {"$ref": f"#/components/headers/{component}"}
        for name, component in headers.items()
        if component in components
    }
    response["headers"] = {**implied, **response.get("headers", {})}


class ProblemResponses:
    """Generator of problem responses: each is made once, as a component that operations refer to.

    The `type` and `instance` of an example come from the example of the schema `Problem`.
    """

    def __init__(self, bundle: SchemaNode) -> None:
        self._bundle = bundle
        self._kinds: SchemaNode = bundle[PROBLEMS]
        components = bundle["components"]
        self._responses: SchemaNode = components.setdefault("responses", {})
        self._examples: SchemaNode = components.setdefault("examples", {})
        self._problem: SchemaNode = components.get("schemas", {}).get("Problem", {})
        if self._kinds and not {"type", "instance"} <= set(self._problem.get("example", {})):
            reason = "is needed for problems, with an example that has type and instance"
            raise ContractError("components/schemas/Problem.yaml", "", reason)
        for response in self._responses.values():
            add_headers(bundle, response, _HEADERS)

    @property
    def not_modified(self) -> SchemaNode | None:
        """The response when `If-None-Match` matches, if the contract declares one."""
        name = "NotModified"
        return {"$ref": f"#/components/responses/{name}"} if name in self._responses else None

    def by_status(self, slugs: Iterable[str]) -> dict[str, list[str]]:
        """Group kinds by status, with kinds that the operation names before implied ones."""
        found: dict[str, list[str]] = {}
        for slug in sorted(slugs, key=lambda slug: ("implied-by" in self._kinds[slug], slug)):
            found.setdefault(str(self._kinds[slug]["status"]), []).append(slug)
        return found

    def of(self, slugs: list[str]) -> SchemaNode:
        """Return a reference to the response for problems of these kinds."""
        name = "Or".join(map(_pascal_case, slugs))
        if name not in self._responses:
            self._responses[name] = self._make(slugs)
        return {"$ref": f"#/components/responses/{name}"}

    def _make(self, slugs: list[str]) -> SchemaNode:
        texts = [_describe(self._kinds[slug]) for slug in slugs]
        listed = (f"- `{slug}`: {text}" for slug, text in zip(slugs, texts, strict=True))
        content = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": {slug: self._example(slug) for slug in slugs},
        }
        response: SchemaNode = {
            "description": "\n".join(listed) if len(slugs) > 1 else texts[0],
            "headers": self._merged(slugs, "headers"),
            "content": {PROBLEM_MEDIA_TYPE: content},
        }
        if links := self._merged(slugs, "links"):
            response["links"] = links
        add_headers(self._bundle, response, _HEADERS)
        return response

    def _merged(self, slugs: list[str], key: str) -> SchemaNode:
        """Return the headers or links of all these kinds together."""
        return {
            name: dict(node)
            for slug in slugs
            for name, node in self._kinds[slug].get(key, {}).items()
        }

    def _example(self, slug: str) -> SchemaNode:
        name, kind, shown = _pascal_case(slug), self._kinds[slug], self._problem["example"]
        self._examples[name] = {
            "summary": kind["example"]["summary"],
            "value": {
                "type": f"{shown['type'].rpartition('/')[0]}/{slug}",
                "code": slug,
                "title": kind["title"],
                "status": kind["status"],
                **kind["example"]["value"],
                "instance": shown["instance"],
            },
        }
        return {"$ref": f"#/components/examples/{name}"}


def _describe(kind: SchemaNode) -> str:
    members = [f"`{name}`, {text}" for name, text in kind.get("members", {}).items()]
    meaning: str = kind["meaning"]
    return f"{meaning} Further members: {'; '.join(members)}." if members else meaning


def _pascal_case(slug: str) -> str:
    return "".join(word.capitalize() for word in slug.split("-"))
