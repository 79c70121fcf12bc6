"""A row that fails does not end a job's run, and a failure that concerns all rows does (M28)."""

from datetime import timedelta

import pytest

from models.errors import DatabaseUnavailable
from models.set_aside import SetAside


def fail() -> None:
    raise ValueError("a bad row")


def lose_the_database() -> None:
    raise DatabaseUnavailable


@pytest.fixture
def reported() -> list[int]:
    return []


@pytest.fixture
def aside(reported: list[int]) -> SetAside[int]:
    return SetAside(lambda key, _error: reported.append(key))


def test_only_rows_that_fail_are_set_aside(aside: SetAside[int], reported: list[int]) -> None:
    assert aside.attempt(1, fail) is None
    assert aside.attempt(2, lambda: "done") == "done"
    assert aside.keys == reported == [1]


def test_a_row_is_tried_again_later(
    aside: SetAside[int], reported: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.set_aside.ASIDE", timedelta(seconds=-1))
    for _ in range(2):
        aside.attempt(1, fail)
        assert aside.keys == []
    assert reported == [1, 1]


def test_a_database_that_is_gone_blames_no_row(aside: SetAside[int]) -> None:
    with pytest.raises(DatabaseUnavailable):
        aside.attempt(1, lose_the_database)
    assert aside.keys == []


def test_the_run_ends_if_every_row_fails(aside: SetAside[int], reported: list[int]) -> None:
    for key in range(10):
        aside.attempt(key, fail)
    with pytest.raises(ValueError, match="bad"):
        aside.attempt(10, fail)
    assert reported == list(range(10))
    aside.attempt(11, lambda: None)
    aside.attempt(12, fail)
    assert aside.keys == [*range(10), 12]


def test_the_number_of_rows_set_aside_is_limited(
    aside: SetAside[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.set_aside._MOST", 1)
    aside.attempt(1, fail)
    with pytest.raises(ValueError, match="bad"):
        aside.attempt(2, fail)
    assert aside.keys == [1]
