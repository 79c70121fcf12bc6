"""Rules for Concord's OpenAPI extensions: each is known, in its place, and well-formed."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from api.contract.compile.published import WEBHOOKS
from api.contract.compile.schemas import SchemaNode
from tests.contract.walk import Finding, components, operations, schemas

EXTENSIONS = {
    "x-engine-log": {"debug"},
    "x-engine-pool": {"reads", "writes", "passwords", "registrations", "pictures", "inline"},
    "x-engine-pool-when-given": {"#/password"},
    "x-engine-wait": {"events"},
    "x-engine-transaction": {"statement", "read", "write", "late-write", "none"},
}
OPERATION_EXTENSIONS = {
    *("x-rate-limit", "x-requires-scopes", "x-requires-session", "x-deprecated-at", "x-sunset"),
}
HEADER_EXTENSIONS = {"x-engine-caching", "x-engine-staleness"}
SCHEMA_EXTENSIONS = {
    *("x-engine-attribute", "x-engine-below-server", "x-engine-reader", "x-engine-ruled-out"),
    *("x-engine-names-webhook", "x-engine-webhooks"),
    *("x-enum-varnames", "x-message", "x-property-names", "x-transitions"),
}


def extensions_are_known(bundle: SchemaNode) -> Iterator[Finding]:
    for operation in operations(bundle):
        for key, value in operation.node.items():
            if (
                key.startswith("x-")
                and key not in OPERATION_EXTENSIONS
                and value not in EXTENSIONS.get(key, ())
            ):
                yield Finding(operation.place, f"has an unknown extension {key}: {value}")
    for known, places in (
        (SCHEMA_EXTENSIONS, schemas(bundle)),
        (HEADER_EXTENSIONS, components(bundle, "headers")),
    ):
        for place, node in places:
            for key in node:
                if key.startswith("x-") and key not in known:
                    yield Finding(place, f"has an unknown extension {key}")


def outdated_reads_are_for_shared_caches(bundle: SchemaNode) -> Iterator[Finding]:
    """`x-engine-staleness` is in whole seconds, for responses that a shared cache may store."""
    for place, header in components(bundle, "headers"):
        seconds = header.get("x-engine-staleness")
        if seconds is not None and (
            type(seconds) is not int
            or seconds < 1
            or "s-maxage=" not in header.get("x-engine-caching", [""])[0]
        ):
            yield Finding(place, "allows an outdated state that no shared cache may store")


def narrowed_schemas_name_webhooks(bundle: SchemaNode) -> Iterator[Finding]:
    """Each name in `x-engine-webhooks` matches a webhook."""
    for place, schema in schemas(bundle):
        for names in schema.get("x-engine-webhooks", {}):
            if not any(fnmatchcase(name, names) for name in bundle[WEBHOOKS]):
                yield Finding(place, f"is narrowed for {names}, which matches no webhook")


def attributes_can_be_read(bundle: SchemaNode) -> Iterator[Finding]:
    """`x-engine-attribute` names an attribute of a model, where a property's name cannot be one."""
    for place, schema in schemas(bundle):
        name = schema.get("x-engine-attribute", "any")
        if not isinstance(name, str) or not re.fullmatch("[a-z]+(_[a-z]+)*", name):
            yield Finding(place, f"is read from {name!r}, which is no attribute")


def values_have_names(bundle: SchemaNode) -> Iterator[Finding]:
    """`x-enum-varnames` is for makers of clients, who can make no name of `-name` or `a:read`."""
    for place, schema in schemas(bundle):
        values, names = schema.get("enum", []), schema.get("x-enum-varnames")
        if names is None and not all(re.fullmatch(r"\w[\w.-]*", str(each)) for each in values):
            yield Finding(place, "has values that are no names, and no x-enum-varnames")
        elif names is not None and (
            not len(values) == len(names) == len(set(names))
            or not all(re.fullmatch("[A-Z]+(_[A-Z]+)*", str(name)) for name in names)
        ):
            yield Finding(place, "has x-enum-varnames that are not a name for each value")


def names_in_maps_are_bounded(bundle: SchemaNode) -> Iterator[Finding]:
    """OpenAPI 3.0 lacks JSON Schema's `propertyNames`; `x-property-names` is its pattern."""
    for place, schema in schemas(bundle):
        names = schema.get("x-property-names")
        if isinstance(schema.get("additionalProperties"), dict) != (names is not None):
            yield Finding(place, "is a map, or has x-property-names, without the other")
        elif names is not None and not isinstance(names, str):
            yield Finding(place, "has x-property-names that are no pattern")
        elif names is not None:
            shown = schema.get("example", {})
            if not all(re.fullmatch(names, name) for name in shown):
                yield Finding(place, "has an example with a name that does not match")
