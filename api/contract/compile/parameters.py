"""Path, query and header parameters: decoded from text to the declared types.

Decoding is strict: numbers are JSON numbers in ASCII digits, booleans are `true` and `false`, and
undeclared parameters are invalid. Python's `int()` and `float()` would also accept `1_000`, `+1`,
`nan` and the digits of every script, which other clients and servers do not accept as numbers.
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from api.contract.compile.normalisers import TYPED
from api.contract.compile.schemas import SchemaNode, Validator, Validators
from api.contract.engine_errors import ContractViolation, InvalidParameters, ParameterViolation

Value: TypeAlias = "str | int | float | bool | list[Value] | None"

_OFFSET = re.compile(r"([+-][0-9]{2})([0-9]{2})\Z")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,309})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A URL cannot contain a bare space or bar, so the escaped character is the separator too.
_SEPARATORS = {
    "form": re.compile(b","),
    "simple": re.compile(b","),
    "spaceDelimited": re.compile(rb"%20|\+"),
    "pipeDelimited": re.compile(rb"\||%7[Cc]"),
}
_BOOLEANS = {"true": True, "false": False}
_MOST_PAIRS = 100
"""Parameters that every query string may have, however few its operation declares."""


class _Unreadable(ValueError):
    """A text that is not a value of the declared type."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A compiled parameter; `argument` is its name in the handler's signature.

    An array sent as one text has a `separator`; without one, each item is sent as a parameter of
    its own. `most_items` is the array's `maxItems`, or -1. A path parameter with `is_path` takes
    the rest of the path.
    """

    name: str
    argument: str
    location: str
    required: bool
    default: Value
    is_array: bool
    separator: re.Pattern[bytes] | None
    kind: str
    is_path: bool
    most_items: int
    validator: Validator
    convert: Callable[[str], object] | None

    def typed(self, value: Value) -> object:
        """Return a decoded value as handlers receive it, with UUIDs and times as objects."""
        if isinstance(value, list):
            return [self.typed(each) for each in value]
        return self.convert(value) if self.convert and isinstance(value, str) else value

    def split(self, text: str) -> list[str]:
        """Split an array's text at commas; any other text is a single item.

        Text beyond `maxItems` is left unsplit, because the array is invalid anyway.
        """
        return text.split(",", self.most_items) if self.is_array else [text]

    def decode(self, texts: list[str]) -> Value:
        """Decode the texts that were sent to a typed value.

        Raises:
            InvalidParameters: the value does not match the declared type or bounds.
        """
        if self.is_array:
            value: Value = [self._read(text) for text in texts]
        elif len(texts) > 1:
            raise self.violation("repeated", "may be given only once")
        else:
            value = self._read(texts[0])
        violation = self.validator.violation(value)
        if violation is None:
            return value
        if self.location == "query" and isinstance(value, str) and self._needs_plus(value):
            raise self.violation("encoding", "has a blank; encode a plus sign as %2B")
        raise self.violation(violation.code, violation.message)

    def _needs_plus(self, text: str) -> bool:
        """Return whether a text is valid once its blanks, sent as `+`, are plus signs."""
        return " " in text and self.validator.is_valid(text.replace(" ", "+"))

    def _read(self, text: str) -> Value:
        if _CONTROL.search(text):
            raise self.violation("encoding", "has a control character")
        try:
            return _READERS[self.kind](text)
        except _Unreadable as error:
            raise self.violation("type", str(error)) from None

    def violation(self, code: str, message: str) -> InvalidParameters:
        """Return an error that names this parameter."""
        return InvalidParameters([ParameterViolation(self.location, self.name, code, message)])


def compile_parameter(declared: SchemaNode, validators: Validators) -> Parameter:
    """Compile a parameter object of the contract, with its references resolved."""
    schema: SchemaNode = declared["schema"]
    is_array = schema.get("type") == "array"
    location = str(declared["in"])
    name = str(declared["name"])
    item: SchemaNode = schema["items"] if is_array else schema
    kind = str(item.get("format"))
    if kind not in _READERS:
        kind = str(item.get("type", "string"))
    style = str(declared.get("style", "form" if location == "query" else "simple"))
    explode = bool(declared.get("explode", style == "form"))
    if kind not in _READERS or style not in _SEPARATORS:
        raise ContractViolation(f"the parameter {name} has a type or style that cannot be decoded")
    default, validator = schema.get("default"), validators.of(schema)
    if default is not None and not validator.is_valid(default):
        raise ContractViolation(f"the default {default!r} of the parameter {name} is invalid")
    return Parameter(
        name=name,
        argument=name.lower().replace("-", "_"),
        location=location,
        required=bool(declared.get("required", False)),
        default=default,
        is_array=is_array,
        separator=None if explode and style == "form" else _SEPARATORS[style],
        kind=kind,
        is_path=schema.get("format") == "path",
        most_items=int(schema.get("maxItems", -1)) if is_array else 1,
        validator=validator,
        convert=TYPED.get(item.get("format")),
    )


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """All query parameters of an operation.

    With `ignores_others`, undeclared parameters are ignored: mail systems and social networks add
    their own to links to web pages, and to what redirects to them.
    """

    by_name: Mapping[str, Parameter]
    ignores_others: bool = False

    def decode(self, query_string: bytes) -> dict[str, Value]:
        """Decode a query string into handler arguments, defaults included.

        Raises:
            InvalidParameters: a parameter is unknown, repeated, missing or invalid. The error
                reports all of them, unless the query string has too many parameters to check.
        """
        most = max(_MOST_PAIRS, sum(each.most_items for each in self.by_name.values()))
        if query_string.count(b"&") >= most:
            reason = f"has more than {most} parameters"
            raise InvalidParameters([ParameterViolation("query", "", "maxItems", reason)])
        sent: dict[str, list[str]] = {}
        if query_string and (self.by_name or not self.ignores_others):
            for name, texts in self._pairs(query_string):
                sent.setdefault(name, []).extend(texts)
        return _decode_all(self.by_name, sent, self._unknown(sent))

    def _unknown(self, sent: Iterable[str]) -> list[ParameterViolation]:
        if self.ignores_others or all(name in self.by_name for name in sent):
            return []
        known = ", ".join(self.by_name) or "none"
        reason = f"has an undeclared parameter; declared parameters are: {known}"
        return [ParameterViolation("query", "", "unknown", reason)]

    def _pairs(self, query_string: bytes) -> Iterable[tuple[str, list[str]]]:
        seen: set[str] = set()
        try:
            for pair in query_string.split(b"&"):
                if pair:
                    raw_name, _, text = pair.partition(b"=")
                    name = _unescape(raw_name)
                    yield name, self._texts(name, text, repeated=name in seen)
                    seen.add(name)
        except ValueError:
            reason = "is not percent-encoded UTF-8"
            violation = ParameterViolation("query", "", "encoding", reason)
            raise InvalidParameters([violation]) from None

    def _texts(self, name: str, text: bytes, *, repeated: bool) -> list[str]:
        """Split an array before decoding its items (RFC 6570, section 3.2.1)."""
        parameter = self.by_name.get(name)
        if parameter is None or not parameter.is_array or parameter.separator is None:
            return [_unescape(text)]
        if repeated:
            raise parameter.violation("repeated", "may be given only once")
        # `re` means "no limit" by 0, not by -1.
        items = parameter.separator.split(text, max(0, parameter.most_items))
        return [_unescape(item) for item in items]


def decode_headers(
    parameters: Mapping[str, Parameter], fields: Mapping[str, str]
) -> dict[str, Value]:
    """Decode the declared header parameters from the request's fields, keyed in lower case."""
    sent = {
        name: [text.strip() for text in parameter.split(fields[name])]
        if parameter.is_array
        else [fields[name]]
        for name, parameter in parameters.items()
        if name in fields
    }
    return _decode_all(parameters, sent, [])


def decode_path(parameters: Iterable[Parameter], texts: Iterable[str]) -> dict[str, Value] | None:
    """Decode path parameters in path order; None if a value cannot name any resource."""
    try:
        return {
            parameter.argument: parameter.decode(parameter.split(text))
            for parameter, text in zip(parameters, texts, strict=True)
        }
    except InvalidParameters:
        return None


def _decode_all(
    parameters: Mapping[str, Parameter],
    sent: Mapping[str, list[str]],
    violations: list[ParameterViolation],
) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, parameter in parameters.items():
        texts = sent.get(name)
        if texts is None:
            if parameter.required:
                violations.extend(parameter.violation("required", "is required").violations)
            # A list is copied, so that no request can change the default of the next.
            values[parameter.argument] = copy.copy(parameter.default)
            continue
        try:
            values[parameter.argument] = parameter.decode(texts)
        except InvalidParameters as error:
            violations.extend(error.violations)
    if violations:
        raise InvalidParameters(violations)
    return values


def _unescape(text: bytes) -> str:
    if _ESCAPE.search(text):
        raise ValueError("a percent sign that escapes nothing")
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "strict")


def read_text(kind: str, text: str) -> Value:
    """Return a text as a value of its declared kind, or unchanged if it is not one."""
    try:
        return _READERS[kind](text)
    except _Unreadable:
        return text


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise _Unreadable("is not an integer")
    return int(text)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise _Unreadable("is not a number")
    value = float(text)
    if not math.isfinite(value):
        raise _Unreadable("is not a number in the range of a double")
    return value


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text]
    except KeyError:
        raise _Unreadable("is neither true nor false") from None


_READERS: Mapping[str, Callable[[str], Value]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": str,
    # Python's %z writes offsets without a colon, which RFC 3339 requires.
    "date-time": lambda text: _OFFSET.sub(r"\1:\2", text),
    "uuid": str.lower,
}
