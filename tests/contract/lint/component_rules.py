"""Rules for components: each is used, described and named."""

import re
from collections.abc import Iterator
from pathlib import Path

from api.contract.compile.operations import REDIRECT
from api.contract.compile.problem_kinds import PROBLEMS
from api.contract.compile.published import WEBHOOKS
from api.contract.compile.schemas import SchemaNode, resolve
from tests.contract.walk import Finding, components, operations, reachable, schemas

KINDS = ("schemas", "parameters", "headers", "responses", "examples", "securitySchemes")
PROBLEM = "application/problem+json"
STANDARD_MEMBERS = {"type", "code", "title", "status", "detail", "instance"}
NAME = {"schemas": "[A-Z][A-Za-z]*", "responses": "[A-Z][A-Za-z]*", "examples": "[A-Z][A-Za-z]*"}


def everything_is_described(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        if not schema.get("description"):
            yield Finding(place, "has no description")
    for kind in KINDS:
        wanted = "summary" if kind == "examples" else "description"
        for place, node in components(bundle, kind):
            if not node.get(wanted):
                yield Finding(place, f"has no {wanted}")
    for part in [bundle["info"], *bundle.get("tags", ()), *bundle.get("servers", ())]:
        if not part.get("description"):
            yield Finding(part.get("name", part.get("url", "info")), "has no description")


def operations_are_described(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        described = [operation.node, *operation.parameters, *operation.responses.values()]
        if "requestBody" in operation.node:
            described.append(operation.node["requestBody"])
        for response in operation.responses.values():
            described += response.get("links", {}).values()
            described += (resolve(bundle, node) for node in response.get("headers", {}).values())
        if not all(each.get("description") for each in described):
            yield Finding(operation.place, "has something without a description")
        if not operation.node.get("summary"):
            yield Finding(operation.place, "has no summary")


def components_are_used(bundle: SchemaNode) -> Iterator[Finding]:
    used = reachable(bundle, [bundle["paths"], bundle[WEBHOOKS]])
    for kind in KINDS:
        for place, _ in components(bundle, kind):
            if kind != "securitySchemes" and f"#/{place}" not in used:
                yield Finding(place, "is used by nothing")
    schemes = {name for each in operations(bundle) for name in _schemes(each.node)}
    for place, _ in components(bundle, "securitySchemes"):
        if place.rpartition("/")[2] not in schemes:
            yield Finding(place, "is used by nothing")


def webhooks_are_of_known_types(bundle: SchemaNode) -> Iterator[Finding]:
    """Each type of event is described as a webhook, and so is the test event."""
    sent = {*bundle["components"]["schemas"]["EventType"]["enum"], "webhook.ping"}
    for name in sorted(sent ^ bundle[WEBHOOKS].keys()):
        yield Finding(f"{WEBHOOKS}/{name}", "is not both an event and a webhook")


def components_are_of_known_kinds(bundle: SchemaNode) -> Iterator[Finding]:
    for kind, named in bundle["components"].items():
        if kind not in KINDS:
            yield Finding(f"components/{kind}", "is a kind that no rule looks at")
        for name in named:
            if not re.fullmatch(NAME.get(kind, ".*"), name):
                yield Finding(f"components/{kind}/{name}", "is not named in PascalCase")


def properties_are_snake_case(bundle: SchemaNode) -> Iterator[Finding]:
    """One digit may end a name, as in `line1`, the first line of an address."""
    for place, schema in schemas(bundle):
        for name in schema.get("properties", {}):
            if not re.fullmatch("[a-z]+(_[a-z]+)*[0-9]?", name):
                yield Finding(place, f"has the property {name}")


def errors_are_shared_problems(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        for status, node in operation.node["responses"].items():
            if int(status) >= 400:
                if "$ref" not in node:
                    yield Finding(operation.place, f"writes out its answer {status}")
                elif list(resolve(bundle, node).get("content", {})) != [PROBLEM]:
                    yield Finding(operation.place, f"answers {status} with something else")
    for place, response in components(bundle, "responses"):
        schema = response.get("content", {}).get(PROBLEM, {}).get("schema")
        if schema not in (None, {"$ref": "#/components/schemas/Problem"}):
            yield Finding(place, "has a problem of another schema")


def problems_are_shown_where_they_occur(bundle: SchemaNode) -> Iterator[Finding]:
    """The names of the examples tell which types of problem a response may carry."""
    for operation in operations(bundle):
        for status, response in operation.responses.items():
            examples = response.get("content", {}).get(PROBLEM, {}).get("examples", {})
            for slug, node in examples.items():
                value = resolve(bundle, node)["value"]
                if value["status"] != status:
                    yield Finding(operation.place, f"shows {slug} for the status {status}")
                if not value["type"].endswith(f"/problems/{slug}"):
                    yield Finding(operation.place, f"shows {slug} with the type of another")


def kinds_of_problem_are_described(bundle: SchemaNode) -> Iterator[Finding]:
    """Each says when it is sent in a full clause, and its members are those of the schema."""
    properties = set(bundle["components"]["schemas"]["Problem"]["properties"])
    declared = set()
    for slug, kind in bundle[PROBLEMS].items():
        place = f"problems/{slug}"
        if not kind["when_sent"].startswith("Returned when "):
            yield Finding(place, "does not begin when_sent with `Returned when`")
        if not all(kind[text].endswith(".") for text in ("meaning", "when_sent", "what_to_do")):
            yield Finding(place, "has a text that is not a sentence")
        members = set(kind.get("members", {}))
        declared |= members
        for name in sorted(members - properties):
            yield Finding(place, f"has the member {name}, which the schema lacks")
    for name in sorted(properties - declared - STANDARD_MEMBERS):
        yield Finding("components/schemas/Problem", f"has {name}, which is a member of no kind")


def responses_carry_their_headers(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        for status, response in operation.responses.items():
            headers = {
                name
                for name, node in response.get("headers", {}).items()
                if resolve(bundle, node).get("required") is True
            }
            limits = operation.node.get("x-rate-limit", []) if status in operation.successes else []
            for name in sorted(_wanted_headers(status, limits) - headers):
                yield Finding(operation.place, f"does not promise {name} with {status}")
            if "RateLimit" in headers and any(map(_is_open, limits)):
                # With the counters out of reach such a request goes on, and nothing was counted.
                yield Finding(
                    operation.place, f"cannot keep its promise of RateLimit with {status}"
                )
            leads_away = status == REDIRECT
            if "Location" in headers and "self" not in response.get("links", {}) and not leads_away:
                yield Finding(operation.place, "has a Location and no link named self")


def _is_open(limit: SchemaNode) -> bool:
    return bool(limit["when-unavailable"] == "open")


def _wanted_headers(status: int, limits: list[SchemaNode]) -> set[str]:
    wanted = {"X-Request-ID", "X-Content-Type-Options"}
    if status != 204:
        wanted |= {"Cache-Control"}
    if limits or status == 429:
        wanted |= {"RateLimit-Policy"}
    if status == 429 or (limits and not any(map(_is_open, limits))):
        wanted |= {"RateLimit"}
    extra = {
        201: {"Location"},
        303: {"Location"},
        304: {"ETag"},
        307: {"Location"},
        401: {"WWW-Authenticate"},
        429: {"Retry-After"},
        503: {"Retry-After"},
    }
    return wanted | extra.get(status, set())


def _schemes(operation: SchemaNode) -> Iterator[str]:
    for requirement in operation.get("security", ()):
        yield from requirement


def files_are_where_they_belong(folder: Path, bundle: SchemaNode) -> Iterator[Finding]:
    """A path's file is named by its tag and its URL: `users/users_{user_id}.yaml`.

    The version is left out of the URL.
    """
    wanted = {"openapi.yaml", "webhooks/event.yaml", "webhooks/ping.yaml"}
    wanted |= {f"problems/{slug}.yaml" for slug in bundle[PROBLEMS]}
    for operation in operations(bundle):
        stem = operation.path.removeprefix("/v1/").strip("/").replace("/", "_")
        wanted.add(f"paths/{operation.node['tags'][0]}/{stem or 'root'}.yaml")
    for kind, named in bundle["components"].items():
        wanted.update(f"components/{kind}/{name}.yaml" for name in named if kind != "examples")
    for name, response in bundle["components"]["responses"].items():
        if PROBLEM in response.get("content", {}):
            # It is made from the kinds of error.
            wanted.discard(f"components/responses/{name}.yaml")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for file in sorted(found - wanted):
        yield Finding(file, "belongs to no path and no component")
    for file in sorted(wanted - found):
        yield Finding(file, "is missing")
