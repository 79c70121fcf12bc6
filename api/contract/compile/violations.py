"""The violations in an invalid value, found one at a time.

jsonschema-rs creates every error before it returns the first, each with a copy of the instance, so
that a small hostile body could take seconds and gigabytes. Here every keyword is compiled into a
validator of its own, which only returns true or false. The walk over the value stops as soon as
its caller has enough violations, and skips arrays and objects that are larger than declared.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from api.contract.engine_errors import Violation

JSONSchema: TypeAlias = dict[str, Any]
"""A schema in JSON Schema 2020-12, with references to `$defs`."""
Check: TypeAlias = Callable[[object], bool]
Note: TypeAlias = Callable[[Violation], None]

MESSAGE = "x-message"
"""Key of the message for a text that does not match the pattern, or for such a name in a map."""
_SIZES = ("maxItems", "maxProperties")
_WALKED = ("$ref", "allOf", "items", "properties", "required", "additionalProperties")
_NOT_CHECKS = {*_WALKED, "propertyNames", "title", "description", "default", MESSAGE}
_LONGEST_NAME = 64
"""Maximum length of a name chosen by the client in a pointer."""
_LONGEST_PATTERN = 80
"""Maximum length of a pattern shown in a message; longer patterns help nobody."""
_MESSAGES: Mapping[str, str] = {
    "type": "must be of type {}",
    "maxItems": "must have at most {} items",
    "maxProperties": "must have at most {} members",
    "enum": "must be one of: {}",
    "const": "must be {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "minProperties": "must have at least {} members",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "uniqueItems": "must not repeat an item",
    "pattern": "must match the pattern {}",
    "format": "must be a valid {}",
}
"""The message for each keyword, in the order of the checks: cheap ones first."""
_ORDER = list(_MESSAGES)


class Finder:
    """Finds the violations of a schema.

    `definitions` gets a finder for each reference before the first value is checked.
    """

    def __init__(
        self,
        schema: JSONSchema,
        definitions: Mapping[str, "Finder"],
        compile_check: Callable[[JSONSchema], Check],
    ) -> None:
        def inner(part: JSONSchema) -> Finder:
            return Finder(part, definitions, compile_check)

        others = schema.get("additionalProperties")
        names = schema.get("propertyNames")
        self._definitions = definitions
        self._reference = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        self._checks = [
            (keyword, _message(keyword, schema), compile_check({keyword: schema[keyword]}))
            for keyword in sorted(schema, key=_rank)
            if keyword not in _NOT_CHECKS
        ]
        self._parts = [inner(part) for part in schema.get("allOf", ())]
        self._items = inner(schema["items"]) if schema.get("items") else None
        self._required = [(name, _below(name)) for name in schema.get("required", [])]
        self._properties = {
            name: (_below(name), inner(part)) for name, part in schema.get("properties", {}).items()
        }
        self._others = inner(others) if others and isinstance(others, dict) else None
        self._is_closed = others is False
        self._is_name = compile_check(names) if names else None
        self._name_message = schema.get(MESSAGE)
        self._pattern = names["pattern"] if names else ""

    def find(self, value: object, note: Note, pointer: str = "", *, is_shown: bool = True) -> None:
        """Call `note` with each violation in a value at a JSON Pointer; `note` may raise to stop.

        With `is_shown` false, the value is inside a member of a map with a name that cannot be
        shown, and the pointer is left at the map.
        """
        for keyword, message, is_valid in self._checks:
            if not is_valid(value):
                note(Violation(pointer, keyword, message))
                if keyword in _SIZES:
                    return
        if isinstance(value, dict):
            self._find_in_object(value, note, pointer, is_shown=is_shown)
        elif isinstance(value, list) and self._items is not None:
            for index, item in enumerate(value):
                place = f"{pointer}/{index}" if is_shown else pointer
                self._items.find(item, note, place, is_shown=is_shown)
        for part in self._parts:
            part.find(value, note, pointer, is_shown=is_shown)
        if self._reference:
            referred = self._definitions[self._reference]
            referred.find(value, note, pointer, is_shown=is_shown)

    def _find_in_object(
        self, value: dict[str, object], note: Note, pointer: str, *, is_shown: bool
    ) -> None:
        for name, below in self._required:
            if name not in value:
                note(Violation(pointer + below, "required", "is required"))
        for name, (below, inner) in self._properties.items():
            if name in value:
                place = pointer + below if is_shown else pointer
                inner.find(value[name], note, place, is_shown=is_shown)
        self._find_in_map(value, note, pointer, is_shown=is_shown)

    def _find_in_map(
        self, value: dict[str, object], note: Note, pointer: str, *, is_shown: bool
    ) -> None:
        """Find the violations in undeclared members and in member names."""
        if self._is_closed and not self._properties.keys() >= value.keys():
            declared = ", ".join(self._properties) or "none"
            reason = f"has an undeclared member; declared members are: {declared}"
            note(Violation(pointer, "additionalProperties", reason))
        if self._others is None and self._is_name is None:
            return
        for name, item in value.items():
            is_plain = is_shown and len(name) <= _LONGEST_NAME and name.isprintable()
            place = pointer + _below(name) if is_plain else pointer
            if self._others is not None and name not in self._properties:
                self._others.find(item, note, place, is_shown=is_plain)
            if self._is_name is not None and not self._is_name(name):
                subject = "a name that" if is_plain else "a member whose name"
                message = f"has {subject} does not match {self._pattern}"
                note(Violation(place, "propertyNames", self._name_message or message))


def missing_name(violation: Violation) -> str | None:
    """Return the name of the missing member, if that is the violation."""
    if violation.code != "required":
        return None
    return violation.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")


def _rank(keyword: str) -> int:
    return _ORDER.index(keyword) if keyword in _ORDER else len(_ORDER)


def _message(keyword: str, schema: JSONSchema) -> str:
    wanted = schema[keyword]
    if keyword == "pattern" and MESSAGE in schema:
        return str(schema[MESSAGE])
    if keyword == "pattern" and len(str(wanted)) > _LONGEST_PATTERN:
        return "must match the declared pattern"
    if keyword.startswith("min") and wanted == 1 and keyword != "minimum":
        return "must not be empty"
    if keyword in ("type", "enum"):
        options = wanted if isinstance(wanted, list) else [wanted]
        wanted = ", ".join(str(option) for option in options)
    return _MESSAGES.get(keyword, "does not match the schema").format(wanted)


def _below(name: str) -> str:
    """Return the end of a JSON Pointer that names a member of an object (RFC 6901, section 3)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
