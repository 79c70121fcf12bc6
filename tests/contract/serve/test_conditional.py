"""Entity tags: made from versions, compared weakly for reading and strongly for writing."""

from typing import Any, cast

import pytest

from api.contract.compile.operations import compile_operations
from api.contract.compile.schemas import Validators
from api.contract.engine_errors import ContractViolation
from api.contract.serve.calls import Call
from api.contract.serve.conditional import acceptable_versions, entity_tag, matches, matches_none
from tests.our_document import our_document


def test_an_etag_is_the_version_or_a_hash_of_the_body() -> None:
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
    ("field", "is_matched"),
    [
        *((field, True) for field in (None, "*", " * ", '"3"', '"1", "3"', '"1" ,W/"3" ,"3"')),
        *((field, False) for field in ('W/"3"', '"1","2"', '"33"', '""', '"3, 4"')),
    ],
)
def test_if_match_of_a_read_compares_strongly(field: str | None, is_matched: bool) -> None:  # noqa: FBT001 - a column of the table.
    assert matches(field, '"3"') is is_matched


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "versions"),
    [
        (None, "*", set()),
        ('"3"', " * ", set()),
        (None, '"3"', {1, 2, 4}),
        ("*", 'W/"3", "1"', {2, 4}),
        (None, '"W/3"', {1, 2, 3, 4}),
        (None, '"x"', {1, 2, 3, 4}),
        ('"2", "3"', 'W/"3"', {2}),
        ('"3"', '"3"', set()),
    ],
)
def test_a_change_may_start_from_versions_that_both_headers_allow(
    if_match: str | None, if_none_match: str, versions: set[int]
) -> None:
    allowed = acceptable_versions(if_match, if_none_match)
    assert allowed is not None
    assert {version for version in range(1, 5) if version in allowed} == versions


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
def test_if_match_of_a_change_compares_strongly(
    field: str | None, versions: set[int] | None
) -> None:
    assert acceptable_versions(field) == versions


def test_a_change_whose_handler_ignores_if_match_stops_the_start() -> None:
    bundle = our_document().bundle
    [operation] = (
        each
        for each in compile_operations(bundle, Validators(bundle))
        if each.id == "update_profile"
    )
    nothing: dict[str, Any] = dict.fromkeys(("render", "idempotency", "database", "recheck"))
    with pytest.raises(ContractViolation, match="update_profile takes If-Match"):
        Call(operation, lambda session: session, services={}, cursors=cast("Any", None), **nothing)
