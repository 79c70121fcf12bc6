"""Strict JSON: all valid JSON is accepted, except texts that parsers read differently."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.contract.strict_json import (
    INT64_MAX,
    INT64_MIN,
    JSON,
    MAX_DEPTH,
    NotStrictJSON,
    parse,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(INT64_MIN, INT64_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES: st.SearchStrategy[JSON] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)

REFUSED = {
    "nothing": b"",
    "spaces": b"  ",
    "a word": b"CANARY",
    "NaN": b'{"CANARY":NaN}',
    "Infinity": b"Infinity",
    "minus Infinity": b"[-Infinity]",
    "a duplicate member": b'{"CANARY":1,"CANARY":2}',
    "a duplicate inner member": b'[{"a":{"CANARY":1,"b":2,"CANARY":1}}]',
    "a duplicate in another spelling": b'{"CANARY":1,"\\u0043ANARY":2}',
    "an escaped NUL": b'"CANARY\\u0000"',
    "an escaped NUL in a name": b'{"CANARY\\u0000":1}',
    "a raw NUL": b'"CANARY\0"',
    "a lone high surrogate": b'"CANARY\\ud83d"',
    "a lone low surrogate": b'"CANARY\\ude00"',
    "surrogates the wrong way round": b'"\\ude00\\ud83d"',
    "a lone surrogate in a name": b'{"\\ud83d":1}',
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "invalid UTF-8": b'"CANARY\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "an integer beyond int64": b"9223372036854775808",
    "an integer below int64": b"-9223372036854775809",
    "an integer of 5,000 digits": b"9" * 5000,
    "an inner integer beyond int64": b'{"a":[[1,{"b":123456789012345678901234}]]}',
    "a number beyond a double": b"1e999",
    "a negative number beyond a double": b"[-1E+309]",
    "a number beyond a double in capitals": b"1E400",
    "a long number beyond a double": b"9" * 400 + b".5",
    "65 arrays": b"[" * 65 + b"]" * 65,
    "65 objects": b'{"a":' * 65 + b"1" + b"}" * 65,
    "65 levels that do not end": b'[{"a":' * 33,
    "100,000 arrays": b"[" * 100_000 + b"]" * 100_000,
    "two values": b"1 2",
    "two objects": b"{}{}",
    "a trailing comma": b"[1,]",
    "single quotes": b"{'CANARY':1}",
    "a comment": b"{} // CANARY",
    "a leading zero": b"01",
    "a plus sign": b"+1",
    "a bare point": b"1.",
    "a raw line end in a text": b'"CANARY\n"',
    "an escape that is none": b'"\\x41"',
    "an open text": b'"CANARY',
}


@given(VALUES, st.booleans())
@settings(deadline=None, max_examples=200)
def test_valid_json_reads_like_the_standard_library(
    value: JSON,
    ascii_only: bool,  # noqa: FBT001 - drawn by hypothesis.
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    # The text tells 0.0 from -0.0 and 1 from 1.0, which compare as equal.
    assert repr(parse(text.encode())) == repr(json.loads(text))


ALMOST_JSON = st.text(alphabet='[]{}",:0123456789.eE-tfn\\u \n', max_size=40)


@given(st.binary(max_size=40) | ALMOST_JSON)
@settings(deadline=None, max_examples=300)
def test_bytes_are_read_correctly_or_refused(text: bytes | str) -> None:
    raw = text.encode() if isinstance(text, str) else text
    try:
        value = parse(raw)
    except NotStrictJSON:
        return
    assert repr(value) == repr(json.loads(raw))


@pytest.mark.mission("M10")
@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_disputed_json_is_refused_and_not_repeated(text: bytes) -> None:
    with pytest.raises(NotStrictJSON) as caught:
        parse(text)
    assert "CANARY" not in str(caught.value)
    assert 0 < len(str(caught.value)) < 100


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9223372036854775807", INT64_MAX),
        (b"-9223372036854775808", INT64_MIN),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
        (b"12345678901234567890.5", 12345678901234567890.5),
        (b"5e-324", 5e-324),
        (b"1e-999", 0.0),
        (b"-0", 0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\u0000"', "\\u0000"),
        (b' \t\r\n{"a" : [ ] }\n', {"a": []}),
        ('"\u2028\u0085\ufeff"'.encode(), "\u2028\u0085\ufeff"),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b"[" + b"[]," * 500 + b"[]]", [[]] * 501),
    ],
)
def test_edge_cases_of_json_are_read(text: bytes, value: JSON) -> None:
    read = parse(text)
    assert read == value if value is not None else isinstance(read, list)


def test_numbers_are_rounded_to_the_nearest_double() -> None:
    for text in ("0.1", "2.2250738585072011e-308", "123456789.123456789e-20", "9007199254740993.0"):
        read = parse(text.encode())
        assert isinstance(read, float)
        assert math.isclose(read, float(text), rel_tol=0)
