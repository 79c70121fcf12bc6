"""Request bodies: JSON, forms (`multipart/form-data`), and files that are sent as they are.

Each body has a maximum size, which follows from the bounds of its schema. A file is a string with
the format `binary`, whose `maxLength` and `minLength` count bytes. JSON of this format is received
as a file and not parsed, for handlers that verify a signature of its bytes. `encoding` names the
media types that a part may have (OpenAPI 3.0.3, Encoding Object).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from api.contract.compile.normalisers import Normalise, compile_normaliser
from api.contract.compile.schemas import (
    LONGEST_NAME,
    PROPERTY_NAMES,
    SchemaNode,
    Validator,
    Validators,
    flatten,
    resolve,
)
from api.contract.engine_errors import ContractViolation

JSON_MEDIA_TYPE: Final = "application/json"
FORM_MEDIA_TYPE: Final = "multipart/form-data"
READER: Final = "x-engine-reader"
"""Key of a file that names the application's reader for it; see `Ports.readers`."""
SMALL = 16 * 1024
"""Bytes that every operation accepts, so that most invalid bodies get precise violations."""

_LONGEST_SCALAR = 512
"""Maximum bytes of a number, a boolean or null, with a generous allowance for digits."""
_ESCAPED = 12
"""Bytes of a character written as two escapes: `\\ud83d\\ude00`."""
_LAYOUT = 64
"""Bytes of white space allowed around each value, such as an indented line of its own."""
_KINDS = ("string", "integer", "number", "boolean")
_PART_OVERHEAD = 8 * 1024
"""Bytes allowed for the boundary and headers of a part."""


@dataclass(frozen=True, slots=True)
class Body:
    """An operation's JSON body; `most_bytes` is None if the schema does not bound its size.

    `any_json` allows media types that end in `+json` (RFC 6839), such as the
    `application/merge-patch+json` that clients send with PATCH.
    """

    required: bool
    any_json: bool
    most_bytes: int | None
    validator: Validator
    normalise: Normalise | None

    @property
    def patches(self) -> tuple[str, ...]:
        """The media types that `Accept-Patch` names (RFC 5789, section 3.1)."""
        return (JSON_MEDIA_TYPE, "application/merge-patch+json") if self.any_json else ()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form, or a body of a media type that is sent as it is.

    Sizes are in bytes. `most` is the number of parts that may have the name. `media_types` is empty
    if the part may have any.
    """

    name: str
    is_file: bool
    is_array: bool
    kind: str
    most: int
    most_bytes: int
    least_bytes: int
    media_types: tuple[str, ...]
    reader: str | None


@dataclass(frozen=True, slots=True)
class Form:
    """A body that is a form or a file.

    `parts` is empty if the operation takes no form. `files` maps the media types of bodies that are
    sent as they are. If the operation takes a form, such a body is treated as a form with only this
    file. `validator` and `normalise` see a form without the content of its files.
    """

    required: bool
    parts: Mapping[str, Part]
    files: Mapping[str, Part]
    most_bytes: int
    validator: Validator
    normalise: Normalise | None

    @property
    def media_types(self) -> tuple[str, ...]:
        """The media types that the body may have."""
        return (*([FORM_MEDIA_TYPE] if self.parts else []), *self.files)

    @property
    def readers(self) -> Iterator[str]:
        """The names of the readers for files."""
        parts = (*self.parts.values(), *self.files.values())
        return (part.reader for part in parts if part.reader is not None)


def compile_body(
    bundle: SchemaNode, method: str, declared: SchemaNode, validators: Validators
) -> Body | None:
    """Compile the JSON body, or return None if the operation takes no JSON."""
    body = resolve(bundle, declared.get("requestBody", {}))
    if not _is_json(bundle, body):
        return None
    if len(body["content"]) > 1:
        raise ContractViolation("a body is either JSON, or a form or files; split the operation")
    schema = body["content"][JSON_MEDIA_TYPE]["schema"]
    normalise = compile_normaliser(bundle, schema)
    required, largest = bool(body.get("required", False)), largest_body(bundle, schema)
    most_bytes = None if largest is None else max(largest, SMALL)
    return Body(required, method == "patch", most_bytes, validators.of(schema), normalise)


def compile_form(bundle: SchemaNode, declared: SchemaNode, validators: Validators) -> Form | None:
    """Compile the body that is not JSON, or return None if the operation takes no such body.

    Raises:
        ContractViolation: the body or one of its parts is declared in a way that is not supported.
    """
    body = resolve(bundle, declared.get("requestBody", {}))
    if not body or _is_json(bundle, body):
        return None
    parameters = [resolve(bundle, node)["name"].lower() for node in declared["parameters"]]
    if "idempotency-key" in parameters:
        raise ContractViolation("a form cannot be compared with its repetition; use PUT instead")
    return _form(bundle, body, validators)


def _is_json(bundle: SchemaNode, body: SchemaNode) -> bool:
    """Return whether a body is JSON to be parsed, and not a file that a handler verifies first."""
    content: Mapping[str, SchemaNode] = body.get("content", {})
    if JSON_MEDIA_TYPE not in content:
        return False
    return flatten(bundle, content[JSON_MEDIA_TYPE]["schema"]).get("format") != "binary"


def _form(bundle: SchemaNode, body: SchemaNode, validators: Validators) -> Form:
    content: Mapping[str, SchemaNode] = body["content"]
    form = content.get(FORM_MEDIA_TYPE, {})
    schema = flatten(bundle, form.get("schema", {}))
    encoding = form.get("encoding", {})
    parts = {
        name: _part(bundle, name, declared, encoding.get(name, {}))
        for name, declared in schema.get("properties", {}).items()
    }
    if parts and schema.get("additionalProperties") is not False:
        raise ContractViolation("a form needs additionalProperties: false")
    file = next((part for part in parts.values() if part.is_file), None)
    files = {
        media_type.lower(): _part(bundle, file.name if file else "", declared["schema"], {})
        for media_type, declared in content.items()
        if media_type != FORM_MEDIA_TYPE
    }
    if not all(each.is_file for each in files.values()):
        raise ContractViolation("a body that is not JSON needs a schema with the format binary")
    if parts and files and set(schema.get("required", ())) > {file.name if file else ""}:
        raise ContractViolation("a form that may be sent as a file requires only the file")
    without_files = {**schema, "properties": _shown(bundle, schema, parts)}
    sizes = [part.most * (part.most_bytes + _PART_OVERHEAD) for part in parts.values()]
    return Form(
        required=bool(body.get("required", False)),
        parts=parts,
        files=files,
        most_bytes=max([sum(sizes), *(each.most_bytes for each in files.values())]),
        validator=validators.of(without_files),
        normalise=compile_normaliser(bundle, without_files),
    )


def _part(bundle: SchemaNode, name: str, declared: SchemaNode, encoding: SchemaNode) -> Part:
    schema = flatten(bundle, declared)
    is_array = schema.get("type") == "array"
    item = flatten(bundle, schema["items"]) if is_array else schema
    is_file = item.get("format") == "binary"
    kind = "uuid" if item.get("format") == "uuid" else str(item.get("type"))
    if kind not in (*_KINDS, "uuid"):
        raise ContractViolation(f"{_called(name)} is neither a file nor a scalar")
    longest = _longest(item, kind)
    if longest is None or (is_array and "maxItems" not in schema):
        raise ContractViolation(f"{_called(name)} needs a maxLength, and an array needs maxItems")
    media_types = str(encoding.get("contentType", "" if is_file else "text/plain")).lower()
    return Part(
        name=name,
        is_file=is_file,
        is_array=is_array,
        kind=kind,
        most=int(schema["maxItems"]) if is_array else 1,
        most_bytes=longest,
        least_bytes=int(item.get("minLength", 0)),
        media_types=tuple(each.strip() for each in media_types.split(",") if each.strip()),
        reader=item.get(READER),
    )


def _longest(schema: SchemaNode, kind: str) -> int | None:
    """Return the maximum bytes of a file or text; None if its schema sets no bound."""
    if kind != "string":
        return _LONGEST_SCALAR
    if "enum" in schema:
        return max(len(str(value).encode()) for value in schema["enum"])
    if "maxLength" not in schema:
        return None
    # A character has up to four bytes in UTF-8.
    return int(schema["maxLength"]) * (1 if schema.get("format") == "binary" else 4)


def _called(name: str) -> str:
    return f"the part {name}" if name else "a body that is neither JSON nor a form"


def _shown(bundle: SchemaNode, schema: SchemaNode, parts: Mapping[str, Part]) -> SchemaNode:
    """Return the properties of a form, with files that may be any value."""
    shown: SchemaNode = {}
    for name, declared in schema.get("properties", {}).items():
        part, flat = parts[name], flatten(bundle, declared)
        shown[name] = declared
        if part.is_file:
            shown[name] = {**flat, "items": {}} if part.is_array else {}
    return shown


def largest_body(bundle: SchemaNode, schema: SchemaNode) -> int | None:
    """Return the maximum bytes of a valid JSON body; None if its schema sets no bound.

    A larger body is refused before it has been received and parsed, which saves memory and time.
    The schema must not refer to itself.
    """
    schema = flatten(bundle, schema)
    size = _largest(bundle, schema)
    return None if size is None else size + _LAYOUT


def _largest(bundle: SchemaNode, schema: SchemaNode) -> int | None:
    if "enum" in schema:
        return _text(max(len(str(value)) for value in schema["enum"]))
    match schema.get("type"):
        case "string":
            length = schema.get("maxLength")
            return None if length is None else _text(int(length))
        case "array":
            item, count = largest_body(bundle, schema["items"]), schema.get("maxItems")
            return None if item is None or count is None else (item + len(",")) * int(count) + 2
        case "object":
            return _largest_object(bundle, schema)
        case None:
            return None
    return _LONGEST_SCALAR


def _largest_object(bundle: SchemaNode, schema: SchemaNode) -> int | None:
    if PROPERTY_NAMES in schema:
        return _largest_map(bundle, schema)
    if schema.get("additionalProperties") is not False:
        return None
    total = 2
    for name, declared in schema.get("properties", {}).items():
        value = largest_body(bundle, declared)
        if value is None:
            return None
        total += _text(len(name)) + len(":,") + value
    return total


def _largest_map(bundle: SchemaNode, schema: SchemaNode) -> int | None:
    """Compute the size of a map. The validator bounds its names, because it has a name pattern."""
    values, count = schema.get("additionalProperties"), schema.get("maxProperties")
    value = largest_body(bundle, values) if isinstance(values, dict) else None
    if value is None or count is None:
        return None
    return (_text(LONGEST_NAME) + len(":,") + value) * int(count) + 2


def _text(length: int) -> int:
    return _ESCAPED * length + len('""')
