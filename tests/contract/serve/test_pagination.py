"""Cursors continue where a page ended, and work nowhere else."""

import itertools
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from api.contract.compile.parameters import Value
from api.contract.engine_errors import InvalidParameters
from api.contract.serve.pagination import Cursors, next_link

CURSORS = Cursors(b"k" * 32)
REFUSAL = "is not a cursor for this list with these filters"
FILTERS: Mapping[str, Value] = {"active": True, "role": None, "limit": 25, "cursor": None}


def refusal(
    cursor: str,
    *,
    cursors: Cursors = CURSORS,
    operation: str = "list_users",
    filters: Mapping[str, Value] = FILTERS,
) -> str:
    """What is said of a cursor that is no good."""
    with pytest.raises(InvalidParameters) as caught:
        cursors.decode(operation, filters, cursor)
    [violation] = caught.value.violations
    assert (violation.location, violation.parameter) == ("query", "cursor")
    return violation.message


@pytest.mark.parametrize("position", [1, 2**63 - 1, "0198c1a2-7b3c-7def", [5, "é"]])
def test_a_cursor_returns_its_position(position: object) -> None:
    cursor = CURSORS.encode("list_users", FILTERS, position)
    assert CURSORS.decode("list_users", FILTERS, cursor) == position


def test_a_cursor_is_valid_with_other_limits_and_processes() -> None:
    cursor = CURSORS.encode("list_users", FILTERS, 5)
    other = Cursors(b"k" * 32)
    assert other.decode("list_users", {**FILTERS, "limit": 3, "cursor": cursor}, cursor) == 5


@pytest.mark.parametrize(
    "filters",
    [
        {**FILTERS, "active": False},
        {**FILTERS, "active": None},
        {**FILTERS, "active": "True"},
        {**FILTERS, "role": "admin"},
        {**FILTERS, "more": 1},
        {},
    ],
)
def test_a_cursor_is_bound_to_its_filters(filters: dict[str, Value]) -> None:
    cursor = CURSORS.encode("list_users", FILTERS, 5)
    assert refusal(cursor, filters=filters) == REFUSAL


def test_a_cursor_is_bound_to_its_operation_and_key() -> None:
    cursor = CURSORS.encode("list_users", FILTERS, 5)
    assert refusal(cursor, operation="list_orders") == REFUSAL
    assert refusal(cursor, cursors=Cursors(b"x" * 32)) == REFUSAL


def test_a_modified_cursor_is_refused() -> None:
    cursor = CURSORS.encode("list_users", FILTERS, 1234567890)
    # The last character of base64 may have bits that belong to no byte.
    for at, letter in itertools.product(range(len(cursor) - 1), "A_"):
        changed = cursor[:at] + letter + cursor[at + 1 :]
        assert changed == cursor or refusal(changed) == REFUSAL


@pytest.mark.parametrize("text", ["", ".", "a", "a.b", "e30.e30", "." * 400, "eyJrIjo0Mn0.c2ln"])
def test_an_invented_cursor_is_refused(text: str) -> None:
    assert refusal(text) == REFUSAL


def test_the_link_repeats_the_filters_and_leads_to_the_next_page() -> None:
    header = next_link("http://a.example/v1/users", FILTERS, "c.d")
    target, _, relation = header.partition("; ")
    assert relation == 'rel="next"'
    url = urlsplit(target.strip("<>"))
    assert (url.scheme, url.netloc, url.path) == ("http", "a.example", "/v1/users")
    assert parse_qs(url.query) == {"active": ["true"], "limit": ["25"], "cursor": ["c.d"]}


def test_the_link_escapes_the_filters() -> None:
    header = next_link("http://a.example/", {"q": 'a>"b&c=d é', "tag": ["x", "y"]}, "c")
    target = header.partition(">")[0].removeprefix("<")
    assert header.isascii()
    assert parse_qs(urlsplit(target).query) == {
        "q": ['a>"b&c=d é'],
        "tag": ["x", "y"],
        "cursor": ["c"],
    }
