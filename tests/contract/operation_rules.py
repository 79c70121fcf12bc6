"""Rules for operations: how they are named, what is answered, and where it leads."""

import re
from collections import Counter
from collections.abc import Iterator

from api.contract.schemas import SchemaNode, resolve
from tests.contract.access_rules import is_secured
from tests.contract.walk import Finding, Operation, operations

# Whoever signs in has no token yet, and may lack something all the same.
SIGN_INS = {"create_token", "complete_sign_in"}
# These depend on what an operation does; all other statuses follow from what it declares.
STATUSES_BY_CHOICE = {401, 409, 422}
KINDS_OF_REPETITIONS = {409: "idempotency-in-flight", 422: "idempotency-key-reused"}


def operation_ids_are_unique_and_snake_case(bundle: SchemaNode) -> Iterator[Finding]:
    ids = Counter(operation.node.get("operationId", "") for operation in operations(bundle))
    for operation in operations(bundle):
        name = operation.node.get("operationId", "")
        if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
            yield Finding(operation.place, f"has {name!r} for its operationId")
        elif ids[name] > 1:
            yield Finding(operation.place, f"shares its operationId {name}")


def operations_have_one_declared_tag(bundle: SchemaNode) -> Iterator[Finding]:
    """The tag is the name of the handler's module."""
    declared = [tag["name"] for tag in bundle.get("tags", ())]
    used = set()
    for operation in operations(bundle):
        tags = operation.node.get("tags", [])
        used.update(tags)
        if len(tags) != 1 or tags[0] not in declared:
            yield Finding(operation.place, "has not exactly one tag that is declared")
    for tag in declared:
        if tag not in used:
            yield Finding(f"tags/{tag}", "is used by no operation")
        if not re.fullmatch(r"[a-z]+(_[a-z]+)*", tag):
            yield Finding(f"tags/{tag}", "cannot be the name of a module")


def statuses_are_those_that_can_be_sent(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        wanted = set(_statuses(operation))
        declared = set(operation.responses) - set(operation.successes)
        for status in sorted(wanted - declared):
            yield Finding(operation.place, f"can answer {status} and does not declare it")
        for status in sorted(declared - wanted - STATUSES_BY_CHOICE):
            yield Finding(operation.place, f"declares {status} and cannot answer it")
        if len(operation.successes) != 1:
            yield Finding(operation.place, "has not exactly one success")


def _statuses(operation: Operation) -> Iterator[int]:
    yield from (400, 500)
    if is_secured(operation) or operation.node["operationId"] in SIGN_INS:
        yield from (401, 403)
    if "{" in operation.path:
        yield 404
    if any("content" in response for response in operation.successes.values()):
        yield 406
    if "requestBody" in operation.node:
        yield from (408, 413, 415, 422)
    if operation.takes("header", "If-None-Match"):
        yield 304
    if operation.takes("header", "If-Match"):
        yield 412
    if "x-rate-limit" in operation.node:
        yield 429
    if operation.node.get("x-engine-pool") != "inline":
        yield 503


def conditional_headers_have_an_etag(bundle: SchemaNode) -> Iterator[Finding]:
    """What has an ETag can be asked for by it, and what is changed by it had one to read."""
    etags: dict[str, bool] = {}
    for operation in operations(bundle):
        has_etag = any("ETag" in each.get("headers", {}) for each in operation.successes.values())
        etags[f"{operation.method} {operation.path}"] = has_etag
        if operation.method == "get" and has_etag != operation.takes("header", "If-None-Match"):
            yield Finding(operation.place, "has an ETag or If-None-Match without the other")
    for operation in operations(bundle):
        if operation.takes("header", "If-Match") and not etags.get(f"get {operation.path}"):
            yield Finding(operation.place, "takes If-Match for what has no ETag to read")


def repetitions_are_answered(bundle: SchemaNode) -> Iterator[Finding]:
    """Whoever has to send `Idempotency-Key` learns whether the answer is an earlier one.

    What a key can be refused for is said where one is taken, and nowhere else.
    """
    for operation in operations(bundle):
        takes_key = operation.takes("header", "Idempotency-Key")
        for parameter in operation.parameters:
            if parameter["name"] == "Idempotency-Key" and parameter.get("required") is not True:
                yield Finding(operation.place, "does not require Idempotency-Key")
        for response in operation.successes.values():
            node = response.get("headers", {}).get("Idempotent-Replayed")
            if (node is not None) != takes_key:
                yield Finding(operation.place, "has one of the headers of a repetition only")
            elif node is not None and resolve(bundle, node).get("required") is True:
                yield Finding(operation.place, "says that every answer is a repetition")
        for status, kind in KINDS_OF_REPETITIONS.items():
            content = operation.responses.get(status, {}).get("content", {})
            shown = content.get("application/problem+json", {}).get("examples", {})
            if (kind in shown) != takes_key:
                yield Finding(operation.place, f"has one of Idempotency-Key and {kind} only")


def request_ids_can_be_sent(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        if not operation.takes("header", "X-Request-ID"):
            yield Finding(operation.place, "does not take X-Request-ID")


def parameters_are_named_alike(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        in_path = re.findall(r"\{(\w+)\}", operation.path)
        declared = [each["name"] for each in operation.parameters if each["in"] == "path"]
        if sorted(in_path) != sorted(declared):
            yield Finding(operation.place, "declares other path parameters than its path has")
        if operation.path != "/" and operation.path.endswith("/"):
            yield Finding(operation.place, "has a path that ends in a slash")
        for parameter in operation.parameters:
            if parameter["in"] != "header" and not re.fullmatch(
                "[a-z]+(_[a-z]+)*", parameter["name"]
            ):
                yield Finding(operation.place, f"has the parameter {parameter['name']}")


def bodies_are_required_json_objects(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        body = operation.node.get("requestBody")
        if body is not None:
            if body.get("required") is not True or list(body["content"]) != ["application/json"]:
                yield Finding(operation.place, "has a body that is not required JSON")
            elif (operation.body or {}).get("type") != "object":
                yield Finding(operation.place, "has a body that is no object")


def lists_are_pages(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        answered = operation.node["responses"].get("200", {})
        content = answered.get("content", {}).get("application/json", {})
        is_page = content.get("schema", {}).get("$ref", "").endswith("Page")
        takes = [operation.takes("query", name) for name in ("cursor", "limit")]
        if takes != [is_page, is_page] or is_page != ("Link" in answered.get("headers", {})):
            yield Finding(operation.place, "has not all of cursor, limit, Link and a page")
        for parameter in operation.parameters:
            if parameter["name"] == "limit":
                schema = resolve(bundle, parameter["schema"])
                if (schema.get("default"), schema.get("maximum")) != (25, 100):
                    yield Finding(operation.place, "has pages of another size")


def links_lead_somewhere(bundle: SchemaNode) -> Iterator[Finding]:
    by_id = {operation.node["operationId"]: operation for operation in operations(bundle)}
    for operation in operations(bundle):
        for response in operation.responses.values():
            for name, node in response.get("links", {}).items():
                link = resolve(bundle, node)
                target = by_id.get(link.get("operationId", ""))
                if target is None:
                    yield Finding(operation.place, f"has a link {name} to no operation")
                    continue
                known = {each["name"] for each in target.parameters}
                sent = {each.rpartition(".")[2] for each in link.get("parameters", {})}
                needed = {each["name"] for each in target.parameters if each["in"] == "path"}
                if not needed <= sent <= known:
                    yield Finding(
                        operation.place, f"has a link {name} that does not fit its target"
                    )
