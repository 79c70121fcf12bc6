"""Entity tags: made from versions, compared weakly for reading and strongly for writing."""

import pytest

from api.contract.conditional import acceptable_versions, entity_tag, matches_none


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
