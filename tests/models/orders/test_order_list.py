import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import product as combinations
from typing import get_args
from uuid import UUID

import pytest

from models.orders.order import Order
from models.orders.order_list import OrderFilter, OrderSort
from models.orders.order_view import OrderView
from models.storage.database import Database
from models.storage.filtering import FEW
from models.storage.page import Page
from tests.factories import STATUSES, Person, make_admin, make_buyer, make_order, make_product
from tests.models.actions import cancel
from tests.models.reading import ALL_ORDERS, read_orders

pytestmark = pytest.mark.mission("M16")

SORTS: tuple[OrderSort, ...] = get_args(OrderSort)
MICROSECOND = timedelta(microseconds=1)


def ids(orders: Sequence[Order | OrderView]) -> list[UUID]:
    return [order.id for order in orders]


def pages(
    database: Database,
    by: Person,
    wanted: OrderFilter = ALL_ORDERS,
    *,
    sort: OrderSort = "-created_at",
    limit: int,
) -> Iterator[Page[OrderView]]:
    """Walk a list as a client does: what a page gives for the next one goes through JSON."""
    after = None
    while True:
        page = read_orders(database, by=by, wanted=wanted, sort=sort, after=after, limit=limit)
        yield page
        if page.next_key is None:
            return
        after = json.loads(json.dumps(page.next_key))


def walk(
    database: Database,
    by: Person,
    wanted: OrderFilter = ALL_ORDERS,
    *,
    sort: OrderSort = "-created_at",
    limit: int,
) -> list[UUID]:
    read = list(pages(database, by, wanted, sort=sort, limit=limit))
    assert all(len(page.items) == limit for page in read[:-1])
    return [order.id for page in read for order in page.items]


def by_hand(orders: Sequence[Order], wanted: OrderFilter, sort: OrderSort) -> list[UUID]:
    """Filter and sort some orders, without the database."""
    found = [
        order
        for order in orders
        if (not wanted.statuses or order.status in wanted.statuses)
        and wanted.user_id in (None, order.user_id)
        and (wanted.created_from is None or order.created_at >= wanted.created_from)
        and (wanted.created_to is None or order.created_at < wanted.created_to)
        and (wanted.total_min is None or order.total_amount >= wanted.total_min)
        and (wanted.total_max is None or order.total_amount <= wanted.total_max)
    ]
    by_total = sort.endswith("total")
    found.sort(
        key=lambda order: (order.total_amount if by_total else 0, order.id.int),
        reverse=sort.startswith("-"),
    )
    return ids(found)


def fill(database: Database, buyers: Sequence[Person]) -> list[Order]:
    """Place orders of the buyers in turns, in all states; many of them have equal totals."""
    products = [make_product(database, price=price, stock=100) for price in (100, 200, 300)]
    return [
        make_order(
            database,
            status=STATUSES[number % 5],
            buyer=buyers[number % len(buyers)],
            lines=[(products[number % 3], 2)],
        )
        for number in range(16)
    ]


@pytest.mark.parametrize("few", [3, FEW])
def test_lists_equal_filtering_and_sorting_in_python(
    database: Database, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("models.storage.filtering.FEW", few)
    buyers = [make_buyer(database), make_buyer(database), make_buyer(database)]
    orders, admin = fill(database, buyers), make_admin(database)
    early, late = orders[3].created_at, orders[12].created_at

    every_list = combinations(
        (None, buyers[0].user_id),
        (None, ["paid"], ["paid", "shipped", "pending"]),
        ((None, None), (early, late)),
        ((None, None), (300, 400), (None, 400)),
        SORTS,
    )
    for user_id, statuses, (since, until), (least, most), sort in every_list:
        wanted = OrderFilter(statuses, user_id, since, until, least, most)
        expected = by_hand(orders, wanted, sort)
        assert walk(database, admin, wanted, sort=sort, limit=3) == expected


def test_nobody_lists_the_orders_of_others(database: Database) -> None:
    alice, bob = make_buyer(database), make_buyer(database)
    fill(database, [alice, bob])
    admin = make_admin(database)

    for sort, statuses in combinations(SORTS, (None, ["paid"], STATUSES)):
        own = OrderFilter(statuses)
        theirs = replace(own, user_id=alice.user_id)
        expected = walk(database, admin, theirs, sort=sort, limit=100)
        assert len(expected) > 0
        assert walk(database, alice, own, sort=sort, limit=3) == expected
        assert walk(database, alice, theirs, sort=sort, limit=3) == expected
        assert walk(database, bob, theirs, sort=sort, limit=3) == []


def test_a_list_may_be_empty(database: Database) -> None:
    for sort in SORTS:
        assert read_orders(database, by=make_admin(database), sort=sort) == Page([], None)


def test_all_states_together_are_no_restriction(database: Database) -> None:
    fill(database, [make_buyer(database)])
    admin = make_admin(database)
    everything = walk(database, admin, limit=100)

    for statuses in ([], STATUSES, [*STATUSES, "paid", "paid"]):
        assert walk(database, admin, OrderFilter(statuses), limit=3) == everything
    assert walk(database, admin, OrderFilter(["lost"]), limit=3) == []


def test_time_bounds_are_exact_to_the_microsecond(database: Database) -> None:
    order, admin = make_order(database), make_admin(database)
    made = order.created_at
    assert made.microsecond % 1000 == 0

    def found(**bounds: object) -> bool:
        wanted = replace(ALL_ORDERS, **bounds)  # type: ignore[arg-type]  # which is what the tests below give
        return bool(read_orders(database, by=admin, wanted=wanted).items)

    assert found(created_from=made)
    assert found(created_from=made - MICROSECOND)
    assert not found(created_from=made + MICROSECOND)
    assert not found(created_to=made)
    assert not found(created_to=made - MICROSECOND)
    assert found(created_to=made + MICROSECOND)
    assert found(created_from=made, created_to=made + MICROSECOND)
    assert not found(created_from=made, created_to=made)


def test_bounds_of_the_total_are_inclusive(database: Database) -> None:
    make_order(database, lines=[(make_product(database, price=500), 1)])
    admin = make_admin(database)

    def found(least: int | None, most: int | None) -> bool:
        wanted = OrderFilter(total_min=least, total_max=most)
        return bool(read_orders(database, by=admin, wanted=wanted).items)

    assert found(500, 500)
    assert found(500, None)
    assert found(None, 500)
    assert not found(501, None)
    assert not found(None, 499)
    assert not found(501, 499)


def test_orders_and_their_lines_take_two_queries(database: Database) -> None:
    lines = [(make_product(database), 1), (make_product(database), 2)]
    for _ in range(3):
        make_order(database, lines=lines)

    page = read_orders(database, by=make_admin(database))

    assert [[line.quantity for line in order.lines] for order in page.items] == [[1, 2]] * 3


# An order that changes moves in lists by the last change, which test_order_search.py reads.
@pytest.mark.parametrize("sort", [sort for sort in SORTS if not sort.endswith("updated_at")])
@pytest.mark.parametrize("statuses", [None, ["pending", "paid"]])
def test_paging_neither_repeats_nor_skips_unchanged_rows(
    database: Database, sort: OrderSort, statuses: list[str] | None
) -> None:
    product, buyer = make_product(database, stock=100), make_buyer(database)
    orders = [
        make_order(database, buyer=buyer, lines=[(product, 1 + number % 3)]) for number in range(12)
    ]
    stayed, walked = set(ids(orders)), list[UUID]()

    for page in pages(database, buyer, OrderFilter(statuses), sort=sort, limit=3):
        walked += ids(page.items)
        make_order(database, buyer=buyer, lines=[(product, 2)])
        leaver = orders.pop(len(orders) // 2)
        cancel(database, leaver)
        if statuses:
            stayed.remove(leaver.id)
        assert len(walked) < 40

    assert len(walked) == len(set(walked))
    assert stayed <= set(walked)
