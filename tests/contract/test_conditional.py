"""Entity tags: made from versions, compared weakly for reading and strongly for writing."""

import time

import pytest

from api.contract.conditional import (
    acceptable_versions,
    check_syntax,
    entity_tag,
    matches_none,
)
from api.contract.errors import InvalidParameters


def test_a_tag_is_the_version_or_else_the_body() -> None:
    assert entity_tag(3, b"whatever") == '"3"'
    assert entity_tag(None, b"a") == entity_tag(None, b"a") != entity_tag(None, b"b")
    assert entity_tag(None, b"a").strip('"').isalnum()


@pytest.mark.parametrize(
    ("field", "matches"),
    [
        (None, False),
        ("*", True),
        (" * ", True),
        ('"3"', True),
        ('W/"3"', True),
        ('"1", "3"', True),
        ('"1" ,W/"3" , "5"', True),
        ('"1","2"', False),
        ('"33"', False),
        ('""', False),
        ('"3, 4"', False),
    ],
)
def test_if_none_match_compares_weakly(field: str | None, matches: bool) -> None:  # noqa: FBT001 - a column of the table.
    assert matches_none(field, '"3"') is matches


@pytest.mark.parametrize(
    ("field", "versions"),
    [
        (None, None),
        ("*", None),
        ('"3"', {3}),
        ('"3", "7"', {3, 7}),
        ('W/"3"', set()),
        ('W/"3", "7"', {7}),
        ('"03"', set()),
        ('"+3"', set()),
        ('"-3"', set()),
        ('"3.0"', set()),
        ('"1_0"', set()),
        ('"\u0663"', set()),
        ('""', set()),
        ('"' + "9" * 5000 + '"', set()),
        ('"d41d8cd98f00b204e9800998ecf8427e"', set()),
    ],
)
def test_if_match_compares_strongly_and_by_versions(
    field: str | None, versions: set[int] | None
) -> None:
    assert acceptable_versions(field) == versions


@pytest.mark.parametrize("field", ["*", " * ", '"a"', 'W/"a"', '"a", W/"b" ,"c"', '""', '"é"'])
def test_lists_of_tags_are_well_formed(field: str) -> None:
    check_syntax("If-Match", field)


@pytest.mark.parametrize(
    "field", ["", "a", '"', '"a', 'a"', "'a'", 'w/"a"', '"a" "b"', '*, "a"', '"a b"', '"\x7f"']
)
def test_what_is_no_list_of_tags_is_refused_by_name_and_not_repeated(field: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        check_syntax("If-Match", field)
    [violation] = caught.value.violations
    assert (violation.location, violation.parameter) == ("header", "If-Match")
    assert "nor a list of quoted entity tags" in violation.message


def test_a_long_list_takes_linear_time() -> None:
    began = time.perf_counter()
    check_syntax("If-Match", ", ".join(['W/"a"'] * 20_000))
    with pytest.raises(InvalidParameters):
        check_syntax("If-Match", '"a"' + " , " * 20_000)
    assert time.perf_counter() - began < 2
