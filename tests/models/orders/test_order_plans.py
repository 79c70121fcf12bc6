from collections.abc import Iterator
from datetime import timedelta
from itertools import product as combinations
from pathlib import Path
from typing import get_args

import pytest

from models.orders.order_list import OrderFilter, OrderSort, find_orders
from models.storage.database import Database
from models.storage.filtering import FEW
from tests.databases import KINDS
from tests.factories import ROOT
from tests.models.plans import Plan, explain
from tests.models.stocked import FIRST_DAY, ROWS, identifier, stocked_database

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M20")]

SORTS: tuple[OrderSort, ...] = get_args(OrderSort)
PRIMARY = {"pk_orders", "sqlite_autoindex_orders_1"}
NONE = -1
"""Rows that are few, when the order is always to be walked."""
USERS = (None, 1)
STATUSES = (None, ["paid"], ["pending", "paid", "shipped"])
PERIODS = ((None, None), (FIRST_DAY, None), (FIRST_DAY, FIRST_DAY + timedelta(days=50)))
TOTALS = ((None, None), (100, None), (100, 200))


@pytest.fixture(scope="module", params=KINDS)
def stocked_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stocked(stocked_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with stocked_database(stocked_kind, tmp_path_factory.mktemp("stocked")) as database:
        yield database


def plans(database: Database, kind: str, wanted: OrderFilter, sort: OrderSort) -> list[Plan]:
    """Explain the first page of a list, and one from the middle."""
    middle: list[int | str] = [str(identifier(1000))]
    if not sort.endswith("created_at"):
        middle.insert(0, 500 if sort.endswith("total") else str(FIRST_DAY))
    return [
        plan
        for after in (None, middle)
        for plan in explain(
            database,
            kind,
            lambda s, after=after: find_orders(  # type: ignore[misc]  # mypy infers no default
                s.connection(), wanted, by=ROOT, sort=sort, after=after, limit=25
            ),
        )
    ]


def index_across(wanted: OrderFilter, sort: OrderSort) -> set[str] | None:
    """Name the indexes with the bounds that a list is not sorted by, if it has any.

    A list by the last change can have two of them, and takes that of the narrower bounds.

    No index has two ranges. Either the order is walked and what does not fit is left out, or what
    fits is read and sorted: which of them costs less depends on how much fits.
    """
    period = wanted.created_from or wanted.created_to
    total = wanted.total_min is not None or wanted.total_max is not None
    equal = [("user_id", wanted.user_id), ("status", wanted.statuses)]
    # No index has a status and the last change, so there a status is checked row by row.
    names = ["user_id"] if sort.endswith("updated_at") else ["user_id", "status"]
    columns = [name for name, value in equal if value and name in names]
    indexes: set[str] = set()
    if period and not sort.endswith("created_at"):
        indexes |= {"_".join(["ix_orders", *columns, "id"])} if columns else PRIMARY
    if total and not sort.endswith("total"):
        indexes |= {"_".join(["ix_orders", *columns, "total_amount", "id"])}
    return indexes or None


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("statuses", STATUSES)
@pytest.mark.parametrize("user_id", USERS)
def test_every_list_is_read_in_index_order(
    stocked: Database,
    stocked_kind: str,
    user_id: int | None,
    statuses: list[str] | None,
    sort: OrderSort,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.storage.filtering.FEW", NONE)
    for (since, until), (least, most) in combinations(PERIODS, TOTALS):
        wanted = OrderFilter(statuses, user_id, since, until, least, most)
        for plan in plans(stocked, stocked_kind, wanted, sort):
            assert plan.indexes, plan.text
            assert not plan.whole_tables, plan.text
            assert not plan.unbounded_sorts, plan.text


@pytest.mark.parametrize(
    ("user_id", "statuses", "by_total", "index"),
    [
        (None, None, False, tuple(PRIMARY)),
        (None, None, True, ("ix_orders_total_amount_id",)),
        (1, None, False, ("ix_orders_user_id_id",)),
        (1, None, True, ("ix_orders_user_id_total_amount_id",)),
        (None, STATUSES[1], False, ("ix_orders_status_id",)),
        (None, STATUSES[1], True, ("ix_orders_status_total_amount_id",)),
        (None, STATUSES[2], False, ("ix_orders_status_id",)),
        (None, STATUSES[2], True, ("ix_orders_status_total_amount_id",)),
        (1, STATUSES[1], False, ("ix_orders_user_id_status_id",)),
        (1, STATUSES[2], False, ("ix_orders_user_id_status_id",)),
        (1, STATUSES[1], True, ("ix_orders_user_id_status_total_amount_id",)),
        (1, STATUSES[2], True, ("ix_orders_user_id_status_total_amount_id",)),
    ],
)
def test_the_index_covers_every_filter(
    stocked: Database,
    stocked_kind: str,
    user_id: int | None,
    statuses: list[str] | None,
    *,
    by_total: bool,
    index: tuple[str, ...],
) -> None:
    wanted = OrderFilter(statuses, user_id)
    sorts: tuple[OrderSort, ...] = (
        ("total", "-total") if by_total else ("created_at", "-created_at")
    )

    for sort in sorts:
        for plan in plans(stocked, stocked_kind, wanted, sort):
            assert plan.indexes.intersection(index), plan.text


@pytest.mark.parametrize("few", [NONE, FEW])
@pytest.mark.parametrize("user_id", USERS)
def test_several_states_read_only_some_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_id: int | None, few: int
) -> None:
    monkeypatch.setattr("models.storage.filtering.FEW", few)
    with stocked_database("sqlite", tmp_path) as database:
        for statuses, (least, most), sort in combinations(STATUSES[1:], TOTALS, SORTS):
            wanted = OrderFilter(statuses, user_id, total_min=least, total_max=most)
            for plan in plans(database, "sqlite", wanted, sort):
                assert not plan.walks_beside_branches, plan.text


@pytest.mark.parametrize("user_id", USERS)
def test_narrow_bounds_use_their_own_index(tmp_path: Path, user_id: int | None) -> None:
    assert FEW > ROWS
    choices = combinations(STATUSES, PERIODS, TOTALS, SORTS)
    # To PostgreSQL's planner any index is as good in a table that is as small.
    with stocked_database("sqlite", tmp_path) as database:
        for statuses, (since, until), (least, most), sort in choices:
            wanted = OrderFilter(statuses, user_id, since, until, least, most)
            if index := index_across(wanted, sort):
                for plan in plans(database, "sqlite", wanted, sort):
                    assert plan.indexes & index, plan.text
                    assert plan.indexes <= index | PRIMARY, plan.text


@pytest.mark.mission("M30")
@pytest.mark.parametrize("few", [NONE, FEW])
def test_searches_and_changes_are_read_from_indexes(
    stocked: Database, stocked_kind: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.storage.filtering.FEW", few)
    asked = (
        {"updated_from": FIRST_DAY},
        {"question": "ch_123"},
        {"question": str(identifier(7)), "updated_from": FIRST_DAY},
    )
    for user_id, statuses, sort, question in combinations(USERS, STATUSES[:2], SORTS, asked):
        wanted = OrderFilter(statuses, user_id, **question)
        for plan in plans(stocked, stocked_kind, wanted, sort):
            assert plan.indexes, plan.text
            assert not plan.whole_tables, plan.text
