"""JSON that means one thing: RFC 8259 read strictly, as I-JSON (RFC 7493) asks.

Parsers disagree on duplicate members, on numbers beyond a double or an int64 and on lone
surrogates; what two parsers read differently is how a check is passed by one and broken by the
other. All of that is refused here, before anything looks at the value.
"""

import math
import re
from typing import TypeAlias

import jiter

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""How many values a text may hold: far more than any body of the contract, and what a parser can
build without taking a thousand times the text's own memory."""
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_LEVELLED = bytes.maketrans(b"123456789E", b"000000000e")


class NotStrictJSON(ValueError):
    """The text is not JSON, or reads differently with different parsers; `str` says why."""


def parse(text: bytes) -> JSON:
    """Parse UTF-8 JSON.

    Raises:
        NotStrictJSON: for anything but one JSON value without duplicate members, NUL, lone
            surrogates, integers beyond int64, non-finite numbers or more than 64 levels. The
            message never quotes the text.
    """
    if len(text) > MAX_VALUES and _values(text) > MAX_VALUES:
        raise NotStrictJSON(f"it has more than {MAX_VALUES} commas and brackets")
    try:
        value: JSON = jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise NotStrictJSON(_reason(str(error))) from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH or _is_suspicious(text):
        _check(value)
    return value


def _is_suspicious(text: bytes) -> bool:
    """Tell whether there can be NUL, an integer beyond int64 or a number beyond a double.

    Any other text, which is nearly every one, is spared the walk over its values. Once all digits
    are zeros, to look for fixed texts takes a fraction of the time that a pattern takes.
    """
    levelled = text.translate(_LEVELLED)
    return rb"\u0000" in text or b"0" * 19 in levelled or b"e00" in levelled or b"e+00" in levelled


def _values(text: bytes) -> int:
    """Return at least how many values there can be: each stands after one of these."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _reason(message: str) -> str:
    """Say what jiter found without the member name that it quotes."""
    if message.startswith("Detected duplicate key"):
        return "a member appears twice in one object"
    if message.startswith("recursion limit"):
        return f"it is nested more than {MAX_DEPTH} levels deep"
    position = re.search(r"at line (\d+) column (\d+)$", message)
    where = f" at line {position[1]}, column {position[2]}" if position else ""
    return f"it is not valid JSON{where}"


def _check(value: JSON) -> None:
    pending: list[tuple[JSON, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, (dict, list)):
            if depth >= MAX_DEPTH:
                raise NotStrictJSON(f"it is nested more than {MAX_DEPTH} levels deep")
            if isinstance(item, dict):
                pending.extend((name, depth) for name in item)
            children = item.values() if isinstance(item, dict) else item
            pending.extend((child, depth + 1) for child in children)
        elif isinstance(item, str):
            if "\0" in item:
                raise NotStrictJSON("it holds a NUL character")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise NotStrictJSON("it holds a number beyond the range of a double")
        elif isinstance(item, int) and not INT64_MIN <= item <= INT64_MAX:
            raise NotStrictJSON("it holds an integer beyond 64 bits")
