"""Rules for operations: names, responses and links."""

import re
from collections import Counter
from collections.abc import Iterator

from api.contract.compile.operations import REDIRECT
from api.contract.compile.request_bodies import largest_body
from api.contract.compile.schemas import SchemaNode, resolve
from tests.contract.lint.access_rules import is_secured
from tests.contract.walk import (
    DeclaredOperation,
    Finding,
    is_file,
    is_upload_form,
    operations,
    schemas_sent,
)

# Whoever signs in has no token yet, and may lack something all the same.
SIGN_INS = {"create_token", "complete_sign_in"}
# Operations that ask for the account's password without a token.
PASSWORD_PROOFS = {"confirm_email"}
# It never blocks, and says all the same that something else cannot be used.
READINESS = "get_readiness"
# These depend on what an operation does; all other statuses follow from what it declares.
STATUSES_BY_CHOICE = {401, 409, 410, 422}
# It sends a link, and the account stays as it is until somebody follows the link.
CHANGES_ELSEWHERE = {"request_email_change", "ping_webhook_endpoint", "create_redelivery"}
KINDS_OF_REPETITIONS = {409: "idempotency-in-flight", 422: "idempotency-key-reused"}


def operation_ids_are_unique_and_snake_case(bundle: SchemaNode) -> Iterator[Finding]:
    ids = Counter(operation.node.get("operationId", "") for operation in operations(bundle))
    for operation in operations(bundle):
        name = operation.node.get("operationId", "")
        if not re.fullmatch(r"[a-z]+(_([a-z]+|[0-9]+))*", name):
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
        # A stored file may also be sent in part, or be elsewhere.
        of_files = {206, REDIRECT} if operation.takes("header", "Range") else set()
        if len(operation.successes.keys() - of_files) != 1 or not of_files <= set(
            operation.successes
        ):
            yield Finding(operation.place, "has not exactly one success")


def _statuses(operation: DeclaredOperation) -> Iterator[int]:
    yield from (400, 500)
    name = operation.node["operationId"]
    if is_secured(operation) or name in SIGN_INS:
        yield from (401, 403)
    if name in PASSWORD_PROOFS:
        yield 403
    if "{" in operation.path:
        yield 404
    if any("content" in response for response in operation.successes.values()):
        yield 406
    if "requestBody" in operation.node:
        yield from (408, 413, 415, 422)
    yield from _conditional_statuses(operation)
    if "x-rate-limit" in operation.node or is_secured(operation):
        yield 429
    if operation.node.get("x-engine-pool") != "inline" or name == READINESS:
        yield 503


def _conditional_statuses(operation: DeclaredOperation) -> Iterator[int]:
    if operation.method == "get" and operation.takes("header", "If-None-Match"):
        yield 304
    if operation.takes("header", "If-Match"):
        yield 412
    if operation.takes("header", "Range"):
        yield 416


def what_has_an_etag_takes_preconditions(bundle: SchemaNode) -> Iterator[Finding]:
    """Reading what has an ETag and changing it depend on it if the client wants, and only these.

    What is changed is the nearest resource at or above the path that is not a list.
    """
    etags = {
        operation.path: any(
            "ETag" in each.get("headers", {}) for each in operation.successes.values()
        )
        for operation in operations(bundle)
        if operation.method == "get"
    }
    lists = {each.path for each in operations(bundle) if each.takes("query", "cursor")}
    for operation in operations(bundle):
        path = operation.path
        while operation.method != "get" and path and path not in etags.keys() - lists:
            path = path.rpartition("/")[0]
        wanted = etags.get(path, False) and operation.node["operationId"] not in CHANGES_ELSEWHERE
        for name in ("If-Match", "If-None-Match"):
            if operation.takes("header", name) != wanted:
                yield Finding(operation.place, f"has one of {name} and an ETag to read only")


def versions_pass_proxies_unchanged(bundle: SchemaNode) -> Iterator[Finding]:
    """A proxy that compressed a response would change an entity tag that `If-Match` needs."""
    changed = {
        each.path
        for each in operations(bundle)
        if each.method != "get" and each.takes("header", "If-Match")
    }
    for operation in operations(bundle):
        for response in operation.successes.values():
            headers = response.get("headers", {})
            is_version = operation.method != "get" or operation.path in changed
            caching = resolve(bundle, headers.get("Cache-Control", {"schema": {}}))
            pattern = caching["schema"].get("pattern", "")
            if pattern.endswith(", no-transform$") != ("ETag" in headers and is_version):
                yield Finding(operation.place, "has one of no-transform and the ETag of a version")


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
        if takes_key and "Retry-After" not in operation.responses.get(409, {}).get("headers", {}):
            yield Finding(operation.place, "does not say how long to wait for the first request")


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
    """A form of one file is an exception, and then the file may also be the body itself.

    So is JSON of which the bytes are signed, which is taken as a file.
    """
    for operation in operations(bundle):
        body = operation.node.get("requestBody")
        if body is None:
            continue
        kinds = {name: each.get("schema") for name, each in body["content"].items()}
        form = resolve(bundle, kinds.pop("multipart/form-data", None) or {})
        if is_upload_form(bundle, form):
            if body.get("required") is not True or any(
                each not in form["properties"].values() for each in kinds.values()
            ):
                yield Finding(operation.place, "has a body that is not required or not its file")
        elif body.get("required") is not True or list(body["content"]) != ["application/json"]:
            yield Finding(operation.place, "has a body that is not required JSON")
        elif (operation.body or {}).get("type") != "object" and not is_file(operation.body or {}):
            yield Finding(operation.place, "has a body that is no object")


def bodies_are_bounded(bundle: SchemaNode) -> Iterator[Finding]:
    """Without a bound an operation would receive as many bytes as the operator allows for any."""
    for operation in operations(bundle):
        if operation.body is not None and largest_body(bundle, operation.body) is None:
            yield Finding(operation.place, "has a body of any size")


def bodies_have_no_alternatives(bundle: SchemaNode) -> Iterator[Finding]:
    """Each alternative would be checked in full, and none of their violations could be shown."""
    for place, schema in schemas_sent(bundle, by_client=True):
        for keyword in ("oneOf", "anyOf", "not"):
            if keyword in schema:
                yield Finding(place, f"has {keyword} in what a client sends")


def lists_are_pages(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        answered = operation.node["responses"].get("200", {})
        content = answered.get("content", {}).get("application/json", {})
        is_page = content.get("schema", {}).get("$ref", "").endswith("Page")
        takes = [operation.takes("query", name) for name in ("cursor", "limit")]
        if operation.takes("query", "after"):
            # A feed has no end, so its next page is the same request after another event.
            if takes != [False, True]:
                yield Finding(operation.place, "has not both of after and limit")
        elif takes != [is_page, is_page] or is_page != ("Link" in answered.get("headers", {})):
            yield Finding(operation.place, "has not all of cursor, limit, Link and a page")
        for parameter in operation.parameters:
            if parameter["name"] == "limit":
                schema = resolve(bundle, parameter["schema"])
                if (schema.get("default"), schema.get("maximum")) != (25, 100):
                    yield Finding(operation.place, "has pages of another size")
