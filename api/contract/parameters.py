"""Path, query and header parameters: from text to typed values, as the contract declares them.

Text is read strictly: numbers are JSON's numbers in ASCII digits, booleans are `true` and `false`,
and what is not declared is refused. Python's own `int()` and `float()` would take `1_000`, `+1`,
`nan` and the digits of every script, which no other client or server means by a number.
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from api.contract.errors import ContractViolation, InvalidParameters, ParameterViolation
from api.contract.schemas import SchemaNode, Validator, Validators

Value: TypeAlias = "str | int | float | bool | list[Value] | None"

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,309})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A space or a bar cannot stand in a URL as it is, so that escaped it is still the separator.
_SEPARATORS = {
    "form": re.compile(b","),
    "simple": re.compile(b","),
    "spaceDelimited": re.compile(rb"%20|\+"),
    "pipeDelimited": re.compile(rb"\||%7[Cc]"),
}
_BOOLEANS = {"true": True, "false": False}


class _Unreadable(ValueError):
    """The text is no value of the declared type."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One compiled parameter; `argument` is its name in the handler's signature.

    An array whose items stand in one text has their `separator`; otherwise each item is given by
    itself. A path parameter that `is_path` takes all that is left of the path.
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
    validator: Validator

    def decode(self, texts: list[str]) -> Value:
        """Return the typed value of what was sent.

        Raises:
            InvalidParameters: it does not fit the declared type or bounds.
        """
        if self.is_array:
            value: Value = [self._read(text) for text in texts]
        elif len(texts) > 1:
            raise self.violation("repeated", "may be given only once")
        else:
            value = self._read(texts[0])
        for code, message in self.validator.scalar_faults(value):
            raise self.violation(code, message)
        return value

    def _read(self, text: str) -> Value:
        if _CONTROL.search(text):
            raise self.violation("encoding", "has a control character")
        try:
            return _READERS[self.kind](text)
        except _Unreadable as error:
            raise self.violation("type", str(error)) from None

    def violation(self, code: str, message: str) -> InvalidParameters:
        """Make the error that names this parameter."""
        return InvalidParameters([ParameterViolation(self.location, self.name, code, message)])


def compile_parameter(declared: SchemaNode, validators: Validators) -> Parameter:
    """Compile a parameter object of the contract, its references already resolved."""
    schema: SchemaNode = declared["schema"]
    is_array = schema.get("type") == "array"
    location = str(declared["in"])
    name = str(declared["name"])
    kind = str((schema["items"] if is_array else schema).get("type", "string"))
    style = str(declared.get("style", "form" if location == "query" else "simple"))
    explode = bool(declared.get("explode", style == "form"))
    if kind not in _READERS or style not in _SEPARATORS:
        raise ContractViolation(f"the parameter {name} has a type or style that cannot be decoded")
    return Parameter(
        name=name,
        argument=name.lower().replace("-", "_"),
        location=location,
        required=bool(declared.get("required", False)),
        default=schema.get("default"),
        is_array=is_array,
        separator=None if explode and style == "form" else _SEPARATORS[style],
        kind=kind,
        is_path=schema.get("format") == "path",
        validator=validators.of(schema),
    )


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """All query parameters of one operation."""

    by_name: Mapping[str, Parameter]

    def decode(self, query_string: bytes) -> dict[str, Value]:
        """Decode a query string into handler arguments, defaults included.

        Raises:
            InvalidParameters: one is unknown, repeated, missing, or does not fit. All that is
                wrong is reported at once.
        """
        sent: dict[str, list[str]] = {}
        if query_string:
            for name, texts in self._pairs(query_string):
                sent.setdefault(name, []).extend(texts)
        return _decode_all(self.by_name, sent, self._unknown(sent))

    def _unknown(self, sent: Iterable[str]) -> list[ParameterViolation]:
        if all(name in self.by_name for name in sent):
            return []
        known = ", ".join(self.by_name) or "none"
        reason = f"has a parameter that is not declared; declared are: {known}"
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
            fault = ParameterViolation("query", "", "encoding", reason)
            raise InvalidParameters([fault]) from None

    def _texts(self, name: str, text: bytes, *, repeated: bool) -> list[str]:
        """Split the items of an array before they are decoded (RFC 6570, section 3.2.1)."""
        parameter = self.by_name.get(name)
        if parameter is None or not parameter.is_array or parameter.separator is None:
            return [_unescape(text)]
        if repeated:
            raise parameter.violation("repeated", "may be given only once")
        return [_unescape(item) for item in parameter.separator.split(text)]


def decode_headers(
    parameters: Mapping[str, Parameter], fields: Mapping[str, str]
) -> dict[str, Value]:
    """Decode the declared header parameters, keyed in lower case, from the request's fields."""
    sent = {
        name: [text.strip() for text in fields[name].split(",")]
        if parameter.is_array
        else [fields[name]]
        for name, parameter in parameters.items()
        if name in fields
    }
    return _decode_all(parameters, sent, [])


def decode_path(parameters: Iterable[Parameter], texts: Iterable[str]) -> dict[str, Value] | None:
    """Decode path parameters in the order of the path; None where a value fits no resource."""
    try:
        return {
            parameter.argument: parameter.decode(text.split(",") if parameter.is_array else [text])
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
            # A list is copied, so that no request can change the next one's default.
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
}
