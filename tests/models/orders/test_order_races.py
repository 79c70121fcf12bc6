"""Concurrent orders: sold, reserved and returned units never exceed the stock."""

from functools import partial

import pytest

from models.catalogue.product import Price
from models.errors import IllegalTransition, OutOfStock, RefundExceedsPaid
from models.orders.order import Order
from models.storage.database import Database
from tests.factories import Person, make_admin, make_buyer, make_order, make_product
from tests.models.actions import (
    adjust_stock,
    archive_product,
    cancel,
    change_product,
    place,
    refund,
    ship,
)
from tests.models.books import check_books
from tests.models.reading import read_order, read_product
from tests.models.together import together

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M25")]


def names(results: list[Order | Exception]) -> list[str]:
    return sorted(type(result).__name__ for result in results)


def test_twenty_concurrent_buyers_get_five_units(database: Database) -> None:
    product = make_product(database, stock=5)
    buyers = [make_buyer(database) for _ in range(20)]

    results = together(*(partial(place, database, buyer, [(product, 1)]) for buyer in buyers))

    assert names(results) == ["Order"] * 5 + ["OutOfStock"] * 15
    refused = [result for result in results if isinstance(result, OutOfStock)]
    assert {str(each.extensions["shortages"]) for each in refused} == {
        f"[{{'pointer': '/lines/0', 'product_id': {product.id}, 'wanted': 1, 'available': 0}}]"
    }
    assert read_product(database, product).stock == (5, 5, 0)
    check_books(database)


def test_orders_with_opposite_lines_do_not_deadlock(database: Database) -> None:
    products = [make_product(database, stock=100) for _ in range(5)]
    buyers = [make_buyer(database) for _ in range(8)]
    forth = [(product, 1) for product in products]
    back = forth[::-1]

    def buy(buyer: Person, *, turned: bool) -> list[Order]:
        return [place(database, buyer, back if turned else forth) for _ in range(3)]

    results = together(
        *(partial(buy, buyer, turned=number % 2 == 0) for number, buyer in enumerate(buyers))
    )

    assert [result for result in results if isinstance(result, Exception)] == []
    assert [read_product(database, product).stock for product in products] == [(100, 24, 76)] * 5
    check_books(database)


def test_concurrent_actions_on_orders_do_not_deadlock(database: Database) -> None:
    products = [make_product(database, stock=50) for _ in range(4)]
    forth = [(product, 2) for product in products]
    back, buyer = forth[::-1], make_buyer(database)
    paid = [make_order(database, status="paid", lines=lines) for lines in (forth, back)]
    pending = [make_order(database, lines=lines) for lines in (forth, back)]
    shipped = [make_order(database, status="shipped", lines=lines) for lines in (forth, back)]

    results = together(
        *(partial(ship, database, order) for order in paid),
        *(partial(cancel, database, order) for order in pending),
        *(
            partial(refund, database, order, restock=lines)
            for order, lines in zip(shipped, (back, forth), strict=True)
        ),
        *(partial(place, database, buyer, lines) for lines in (forth, back)),
    )

    assert names(results) == ["Order"] * 8
    assert [read_product(database, product).stock for product in products] == [(46, 4, 42)] * 4
    check_books(database)


def test_an_order_is_either_shipped_or_cancelled(database: Database) -> None:
    for _ in range(4):
        order = make_order(database, status="paid")

        results = together(partial(ship, database, order), partial(cancel, database, order))

        assert names(results) == ["IllegalTransition", "Order"]
        done = read_order(database, order)
        assert done.version == order.version + 1
        (refused,) = (result for result in results if isinstance(result, IllegalTransition))
        assert refused.extensions["state"] == done.status
    check_books(database)


def test_an_order_is_shipped_once(database: Database) -> None:
    product = make_product(database)
    order = make_order(database, status="paid", lines=[(product, 3)])

    results = together(*[lambda: ship(database, order, [(product, 2)])] * 5)

    assert names(results) == ["Order"] + ["QuantityExceeded"] * 4
    assert read_product(database, product).stock == (8, 1, 7)
    check_books(database)


def test_concurrent_full_refunds_refund_once(database: Database) -> None:
    product = make_product(database)
    order = make_order(database, status="paid", lines=[(product, 3)])

    results = together(*[lambda: refund(database, order)] * 6)

    assert sum(isinstance(result, Order) for result in results) == 1
    refusals = (IllegalTransition, RefundExceedsPaid)
    assert sum(isinstance(result, refusals) for result in results) == 5
    assert read_product(database, product).stock == (10, 0, 10)
    check_books(database)


def test_reserved_stock_cannot_be_removed_concurrently(database: Database) -> None:
    make_admin(database)
    for _ in range(4):
        product, buyer = make_product(database, stock=5), make_buyer(database)

        results = together(
            partial(place, database, buyer, [(product, 4)]),
            partial(adjust_stock, database, product, -3),
        )

        assert sum(isinstance(result, Exception) for result in results) == 1
        assert read_product(database, product).stock in {(5, 4, 1), (2, 0, 2)}
    check_books(database)


def test_a_concurrent_price_change_applies_fully_or_not_at_all(database: Database) -> None:
    make_admin(database)
    for _ in range(4):
        product, buyer = make_product(database, price=100), make_buyer(database)

        order, _changed = together(
            partial(place, database, buyer, [(product, 2)]),
            partial(change_product, database, product, price=Price(amount=900, currency="USD")),
        )

        assert isinstance(order, Order)
        assert (order.total_amount, order.currency) in {(200, "EUR"), (1800, "USD")}
    check_books(database)


def test_a_concurrently_archived_product_is_ordered_or_refused(database: Database) -> None:
    make_admin(database)
    for _ in range(4):
        product, buyer = make_product(database), make_buyer(database)

        order, archived = together(
            partial(place, database, buyer, [(product, 2)]),
            partial(archive_product, database, product),
        )

        assert archived is None
        assert type(order).__name__ in {"Order", "UnknownProduct"}
        reserved = 2 if isinstance(order, Order) else 0
        assert read_product(database, product).stock == (10, reserved, 10 - reserved)
    check_books(database)
