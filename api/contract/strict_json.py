"""Strict JSON (RFC 8259), restricted as I-JSON (RFC 7493) recommends.

Parsers disagree on duplicate members, on numbers beyond a double or an int64, and on lone
surrogates. A check by one parser proves nothing for another that reads the text differently. All
such texts are refused here, before any other code sees the value.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import jiter

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Maximum number of values in a text: far more than any body of the contract has.

Parsing fewer values than this cannot use a thousand times the memory of the text.
"""
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_LEVELLED = bytes.maketrans(b"123456789E", b"000000000e")


class NotStrictJSON(ValueError):
    """The text is not JSON, or different parsers would read it differently; `str` says why."""


def parse(text: bytes, *, most_values: int | None = MAX_VALUES) -> JSON:
    """Parse UTF-8 JSON of at most `most_values` values; None means no limit, for trusted text.

    Raises:
        NotStrictJSON: the text is not a single JSON value, or has duplicate members, NUL
            characters, lone surrogates, integers beyond int64, non-finite numbers or more than 64
            levels. The message never quotes the text.
    """
    if most_values is not None and len(text) > most_values and _values(text) > most_values:
        raise NotStrictJSON(f"it has more than {most_values} commas and brackets")
    try:
        value: JSON = jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise NotStrictJSON(_reason(str(error))) from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if _is_suspicious(text):
        _check_scalars(value)
    return value


def _is_suspicious(text: bytes) -> bool:
    """Return whether a text may have a NUL, an integer beyond int64 or a number beyond a double.

    Nearly every text has none, and is spared the walk over its values. Once all digits are zeros,
    searching for fixed strings takes a fraction of the time of a pattern.
    """
    levelled = text.translate(_LEVELLED)
    return rb"\u0000" in text or b"0" * 19 in levelled or b"e00" in levelled or b"e+00" in levelled


def _values(text: bytes) -> int:
    """Return an upper bound for how many values follow the first: each follows one of these."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _reason(message: str) -> str:
    """Describe jiter's error without the member name that it quotes."""
    if message.startswith("Detected duplicate key"):
        return "a member appears twice in one object"
    if message.startswith("recursion limit"):
        return f"it is nested more than {MAX_DEPTH} levels deep"
    position = re.search(r"at line (\d+) column (\d+)$", message)
    where = f" at line {position[1]}, column {position[2]}" if position else ""
    return f"it is not valid JSON{where}"


def _check_depth(value: JSON) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [child for child in _children(level) if isinstance(child, (dict, list))]
    if level:
        raise NotStrictJSON(f"it is nested more than {MAX_DEPTH} levels deep")


def _check_scalars(value: JSON) -> None:
    level = [value]
    while level:
        for item in level:
            if isinstance(item, dict):
                if any("\0" in name for name in item):
                    raise NotStrictJSON("it contains a NUL character")
            elif isinstance(item, str):
                if "\0" in item:
                    raise NotStrictJSON("it contains a NUL character")
            elif isinstance(item, float):
                if not math.isfinite(item):
                    raise NotStrictJSON("it contains a number beyond the range of a double")
            elif isinstance(item, int) and not INT64_MIN <= item <= INT64_MAX:
                raise NotStrictJSON("it contains an integer beyond 64 bits")
        level = list(_children(level))


def _children(level: Iterable[JSON]) -> Iterator[JSON]:
    """Yield the values directly inside arrays and objects."""
    for item in level:
        if isinstance(item, dict):
            yield from item.values()
        elif isinstance(item, list):
            yield from item
