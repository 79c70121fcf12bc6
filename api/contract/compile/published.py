"""The contract for clients, derived from the bundle: OpenAPI 3.0.3, and the same as OpenAPI 3.1.

OpenAPI 3.0.3 allows scopes only for OAuth 2 and OpenID Connect, so an operation lists them in
`x-scopes` instead. Their sentence in the description is for tools that show no extensions.

Webhooks share a schema. The name of a webhook is the type of its event, so `order.pay` sends only
some of the values that the shared schema allows. Schemas declare this with keys that apply only in
webhooks:

- `x-engine-webhooks` maps names of webhooks to keys that replace those of the schema; an object as
  `example` is merged with the schema's. The first match applies, and `order.*` matches all names
  that begin with `order.`. A key whose value is null is removed. In a webhook without a match, a
  nullable schema is always null.
- `x-engine-names-webhook: true` narrows an enum to the webhook's name, or to its part after the
  last dot.
- `x-transitions` narrows a state to the states that the action after the last dot leads to.
"""

import re
from fnmatch import fnmatchcase
from typing import Final

from api.contract.compile.operations import METHODS
from api.contract.compile.request_bodies import JSON_MEDIA_TYPE
from api.contract.compile.schemas import (
    LONGEST_NAME,
    PROPERTY_NAMES,
    SUBSCHEMA_LISTS,
    SUBSCHEMAS,
    SchemaNode,
    resolve,
    translate_exclusive_bounds,
    with_null,
)
from api.contract.compile.transitions import TRANSITIONS

ENGINE_PREFIX: Final = "x-engine-"
"""Prefix of keys that only the engine uses. They are left out of the served document."""
WEBHOOKS: Final = "x-webhooks"
"""Key of the requests that the service sends, which OpenAPI 3.1 calls `webhooks`."""
SCOPES: Final = "x-scopes"
"""Key of the scopes that an operation requires, because `security` may not list them."""

_NARROWED: Final = "x-engine-webhooks"
_NAMES: Final = "x-engine-names-webhook"
_NULL: Final = {"nullable": True, "enum": [None], "description": "Always null.", "example": None}
_VERSION: Final = "3.1.0"
_VALUES: Final = ("default", "enum", "example", "examples")
"""Keys whose values are no part of the document's structure."""


def narrow_webhooks(bundle: SchemaNode) -> None:
    """Narrow the bodies of a bundle's webhooks in place."""
    for name, item in bundle.get(WEBHOOKS, {}).items():
        webhook = _Webhook(bundle, name)
        for method in METHODS:
            body = item.get(method, {}).get("requestBody", {})
            for media in body.get("content", {}).values():
                media["schema"] = webhook.narrow(media["schema"])


def publish(bundle: SchemaNode) -> SchemaNode:
    """Return the contract as an OpenAPI 3.0.3 document for clients."""
    document: SchemaNode = _without_engine_keys(bundle)
    for schema in document["components"].get("schemas", {}).values():
        if _is_form_of_a_file(document, schema):
            # This means the same, as the form is closed. Go clients that openapi-generator makes
            # measure a required file as a text, and then do not compile.
            del schema["required"]
            schema["minProperties"] = 1
    for item in document["paths"].values():
        for method in METHODS:
            if method in item:
                _describe_raw_json(document, item[method])
                item[method] = _with_scopes(item[method], bundle)
    return {**document, "security": _without_scopes(document.get("security", []))}


def upgrade(document: SchemaNode) -> SchemaNode:
    """Return a published OpenAPI 3.0.3 document as OpenAPI 3.1.

    Schemas become JSON Schema 2020-12, and `security` has the scopes, which 3.1 allows, as it does
    `webhooks`.
    """
    upgraded: SchemaNode = {**_upgrade(document), "openapi": _VERSION}
    if WEBHOOKS in upgraded:
        upgraded["webhooks"] = upgraded.pop(WEBHOOKS)
    for item in upgraded["paths"].values():
        for method in METHODS:
            if SCOPES in item.get(method, {}):
                operation = item[method]
                security = [
                    dict.fromkeys(each, operation[SCOPES]) for each in operation["security"]
                ]
                item[method] = {**operation, "security": security}
    return upgraded


def _upgrade(node: SchemaNode) -> SchemaNode:
    return {key: _upgrade_member(key, value) for key, value in node.items()}


def _upgrade_member(key: str, value: object) -> object:
    if key in _VALUES:
        return value
    if isinstance(value, list):
        return [_upgrade(item) if isinstance(item, dict) else item for item in value]
    if not isinstance(value, dict):
        return value
    if key == "schema":
        return _upgrade_schema(value)
    if key == "schemas":
        return {name: _upgrade_schema(schema) for name, schema in value.items()}
    return _upgrade(value)


def _upgrade_schema(schema: SchemaNode) -> SchemaNode:
    result: SchemaNode = {}
    for key, value in schema.items():
        match key:
            case "example":
                result["examples"] = [value]
            case "properties":
                result[key] = {name: _upgrade_schema(inner) for name, inner in value.items()}
            case _ if key in SUBSCHEMA_LISTS:
                result[key] = [_upgrade_schema(inner) for inner in value]
            case _ if key in SUBSCHEMAS and isinstance(value, dict):
                result[key] = _upgrade_schema(value)
            case _ if key == PROPERTY_NAMES:
                result["propertyNames"] = {"pattern": value, "maxLength": LONGEST_NAME}
            case "nullable" | "exclusiveMinimum" | "exclusiveMaximum":
                pass
            case _:
                result[key] = value
    translate_exclusive_bounds(schema, result)
    return with_null(result) if schema.get("nullable") else result


def _with_scopes(operation: SchemaNode, bundle: SchemaNode) -> SchemaNode:
    """Move the scopes of an operation's `security` to `x-scopes`, and describe them."""
    stated = operation if "security" in operation else bundle
    requirements: list[SchemaNode] = stated.get("security", [])
    scopes = [scope for each in requirements for names in each.values() for scope in names]
    if not scopes:
        return operation
    named = ", ".join(f"`{scope}`" for scope in scopes)
    noun = "scope" if len(scopes) == 1 else "scopes"
    condition = "" if all(requirements) else " with a token"
    description = f"{operation.get('description', '')}\n\nRequired {noun}{condition}: {named}."
    return {
        **operation,
        "description": description.strip(),
        "security": _without_scopes(requirements),
        SCOPES: scopes,
    }


def _without_scopes(requirements: list[SchemaNode]) -> list[SchemaNode]:
    return [{name: [] for name in each} for each in requirements]


def _describe_raw_json(document: SchemaNode, operation: SchemaNode) -> None:
    """Describe a JSON body that the handler receives as a file: for clients, it is an object."""
    media = operation.get("requestBody", {}).get("content", {}).get(JSON_MEDIA_TYPE, {})
    schema = resolve(document, media.get("schema", {}))
    if schema.get("format") == "binary":
        description = schema["description"]
        schema.clear()
        schema |= {"type": "object", "description": description}


def _is_form_of_a_file(document: SchemaNode, schema: SchemaNode) -> bool:
    """Return whether a schema is a closed object whose only property is a required file."""
    parts = [resolve(document, part) for part in schema.get("properties", {}).values()]
    is_file = [part.get("format") for part in parts] == ["binary"]
    return is_file and "required" in schema and schema.get("additionalProperties") is False


def _without_engine_keys(node: SchemaNode) -> SchemaNode:
    return {key: _copy(value) for key, value in node.items() if not key.startswith(ENGINE_PREFIX)}


def _copy(node: object) -> object:
    if isinstance(node, dict):
        return _without_engine_keys(node)
    if isinstance(node, list):
        return [_copy(item) for item in node]
    return node


class _Webhook:
    """A webhook, whose name begins the titles of its schemas."""

    def __init__(self, bundle: SchemaNode, name: str) -> None:
        self._bundle = bundle
        self._name = name
        self._action = name.rpartition(".")[2]
        self._title = "".join(part.capitalize() for part in re.findall(r"[a-z]+", name))

    def narrow(self, schema: SchemaNode) -> SchemaNode:
        """Return a schema as this webhook uses it: the same object if it is not narrowed."""
        declared = resolve(self._bundle, schema)
        own = self._own(declared)
        if own is None:
            closed = {"additionalProperties": False} if declared["type"] == "object" else {}
            return {"type": declared["type"], **closed, **_NULL}
        properties = declared.get("properties", {})
        changed = {
            name: inner
            for name, each in properties.items()
            if (inner := self.narrow(each)) is not each
        }
        narrowed = {key: value for key, value in {**declared, **own}.items() if value is not None}
        if changed:
            shown = {name: inner["example"] for name, inner in changed.items()}
            narrowed["properties"] = {**properties, **changed}
            narrowed["example"] = {**narrowed["example"], **shown}
            for inner in changed.values():
                # The outermost example is enough. Redocly takes an `id` in others for a schema's.
                if "properties" in inner:
                    del inner["example"]
        if narrowed == declared:
            return schema
        if "$ref" in schema:
            narrowed["title"] = f"{self._title}{schema['$ref'].rpartition('/')[2]}"
        return narrowed

    def _own(self, declared: SchemaNode) -> SchemaNode | None:
        """Return the keys in which a schema differs for this webhook; `None` if it is null.

        A key whose value is `None` is removed from the schema.
        """
        table: SchemaNode = declared.get(_NARROWED, {})
        matches = (keys for names, keys in table.items() if fnmatchcase(self._name, names))
        found: SchemaNode | None = next(matches, None)
        if found is None and table and declared.get("nullable"):
            return None
        own = {**(found or {})}
        values = self._values(declared)
        if values and values != declared["enum"]:
            shown = declared["example"] if declared["example"] in values else values[0]
            own = {"enum": values, "example": shown, TRANSITIONS: None, **own}
        if isinstance(own.get("example"), dict):
            own["example"] = {**declared["example"], **own["example"]}
        return own

    def _values(self, declared: SchemaNode) -> list[object]:
        """Return the values of an enum that this webhook sends; none if they are not declared."""
        values: list[object] = declared.get("enum", [])
        if declared.get(_NAMES):
            return [each for each in values if each in (self._name, self._action)]
        tables = declared.get(TRANSITIONS, {}).values()
        targets = {
            target
            for table in tables
            for choices in table.values()
            for target in choices.get(self._action, ())
        }
        return [each for each in values if each in targets]
