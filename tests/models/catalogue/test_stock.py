from datetime import UTC, datetime

import pytest

from models.catalogue.product import Product
from models.catalogue.product_stock import MAX_STOCK
from models.catalogue.stock_entry import StockEntry
from models.errors import InvalidQuantity, NotFound, StockOutOfRange
from models.storage.database import Database
from models.storage.page import Page
from tests.factories import STATUSES, make_admin, make_buyer, make_order, make_product
from tests.models.actions import adjust_stock, archive_product, cancel, expire, pay, refund, ship
from tests.models.books import check_books, everything
from tests.models.reading import read_entries, read_product
from tests.models.together import together

pytestmark = pytest.mark.mission("M16")


def moves(database: Database, product: Product) -> list[tuple[str, int, int]]:
    """Give the ledger of a product, less the first count."""
    entries = read_entries(database, product)[1:]
    return [(entry.kind, entry.on_hand, entry.reserved) for entry in entries]


def read_page(
    database: Database, product: Product, *, after: list[int] | None, limit: int
) -> Page[StockEntry]:
    return database.transact(
        lambda s: StockEntry.page(s, product.id, after=after, limit=limit), write=False
    )


def test_an_adjustment_records_its_author_and_reason(database: Database) -> None:
    product, before = make_product(database, stock=0), datetime.now(UTC)

    entry = adjust_stock(database, product, 7)

    assert (entry.product_id, entry.kind, entry.on_hand, entry.reserved) == (
        product.id,
        "adjustment",
        7,
        0,
    )
    assert (entry.actor_id, entry.reason) == (make_admin(database).user_id, "counted anew")
    assert entry.order_id is None
    assert before <= entry.created_at <= datetime.now(UTC)
    assert read_product(database, product).stock == (7, 0, 7)


def test_an_adjustment_can_remove_unreserved_stock(database: Database) -> None:
    product = make_product(database, stock=10)
    make_order(database, lines=[(product, 4)])

    adjust_stock(database, product, -6)

    assert read_product(database, product).stock == (4, 4, 0)
    check_books(database)


@pytest.mark.parametrize("quantity", [-7, MAX_STOCK - 9])
def test_stock_stays_between_the_reserved_and_the_maximum(
    database: Database, quantity: int
) -> None:
    product = make_product(database, stock=10)
    make_order(database, lines=[(product, 4)])
    before = everything(database)

    with pytest.raises(StockOutOfRange):
        adjust_stock(database, product, quantity)

    assert everything(database) == before


def test_stock_can_reach_the_maximum(database: Database) -> None:
    product = make_product(database, stock=10)

    adjust_stock(database, product, MAX_STOCK - 10)
    assert read_product(database, product).stock == (MAX_STOCK, 0, MAX_STOCK)

    adjust_stock(database, product, -MAX_STOCK)
    assert read_product(database, product).stock == (0, 0, 0)


def test_an_adjustment_by_zero_is_refused(database: Database) -> None:
    product = make_product(database)

    with pytest.raises(InvalidQuantity) as refused:
        adjust_stock(database, product, 0)

    assert refused.value.violations == {"/quantity": "must not be 0"}
    assert not moves(database, product)


def test_concurrent_adjustments_are_all_applied(database: Database) -> None:
    product = make_product(database, stock=10)

    results = together(
        *(lambda number=number: adjust_stock(database, product, number) for number in range(1, 9))
    )

    assert all(isinstance(result, StockEntry) for result in results)
    assert read_product(database, product).on_hand == 10 + 36
    check_books(database)


def test_orders_and_shipments_are_recorded(database: Database) -> None:
    product, buyer = make_product(database), make_buyer(database)
    order = make_order(database, buyer=buyer, lines=[(product, 5)])
    pay(database, order)
    ship(database, order, [(product, 2)])
    ship(database, order)
    refund(database, order, 1, restock=[(product, 1)])

    assert moves(database, product) == [
        ("reservation", 0, 5),
        ("shipment", -2, -2),
        ("shipment", -3, -3),
        ("return", 1, 0),
    ]
    entries = read_entries(database, product)[1:]
    admin = make_admin(database).user_id
    assert [entry.actor_id for entry in entries] == [buyer.user_id, admin, admin, admin]
    assert {entry.order_id for entry in entries} == {order.id}
    assert {entry.reason for entry in entries} == {None}
    check_books(database)


def test_releases_are_recorded(database: Database) -> None:
    product = make_product(database)
    cancel(database, make_order(database, lines=[(product, 5)]))
    expire(database, make_order(database, lines=[(product, 4)]))
    refund(database, make_order(database, status="partially_shipped", lines=[(product, 3)]))
    refund(database, make_order(database, status="paid", lines=[(product, 2)]))

    assert moves(database, product) == [
        ("reservation", 0, 5),
        ("release", 0, -5),
        ("reservation", 0, 4),
        ("release", 0, -4),
        ("reservation", 0, 3),
        ("shipment", -1, -1),
        ("release", 0, -2),
        ("reservation", 0, 2),
        ("release", 0, -2),
    ]
    assert read_product(database, product).stock == (9, 0, 9)
    check_books(database)


def test_an_expiry_is_released_without_an_actor(database: Database) -> None:
    product = make_product(database)
    expire(database, make_order(database, lines=[(product, 5)]))

    assert read_entries(database, product)[-1].actor_id is None


@pytest.mark.parametrize("archived", [False, True])
def test_the_books_balance_with_orders_in_all_states(database: Database, *, archived: bool) -> None:
    first, second = make_product(database, stock=100), make_product(database, stock=100)
    orders = {
        status: make_order(database, status=status, lines=[(first, 3), (second, 2)], paid=1)
        for status in STATUSES
    }
    if archived:
        archive_product(database, first)
        cancel(database, orders["paid"])
        refund(database, orders["shipped"], 1, restock=[(first, 1)])

    check_books(database)


def test_returned_goods_cannot_exceed_the_maximum(database: Database) -> None:
    product = make_product(database, stock=3)
    order = make_order(database, status="shipped", lines=[(product, 3)])
    adjust_stock(database, product, MAX_STOCK - 2)
    before = everything(database)

    with pytest.raises(StockOutOfRange):
        refund(database, order, restock=[(product, 3)])

    assert everything(database) == before
    refund(database, order, restock=[(product, 2)])
    assert read_product(database, product).on_hand == MAX_STOCK


def test_the_ledger_is_paged_from_the_oldest_entry(database: Database) -> None:
    product, other = make_product(database, stock=1), make_product(database, stock=1)
    for quantity in range(2, 6):
        adjust_stock(database, product, quantity)
        adjust_stock(database, other, quantity)

    first = read_page(database, product, after=None, limit=3)
    assert first.next_key == [first.items[-1].id]
    second = read_page(database, product, after=[first.items[-1].id], limit=3)

    assert [entry.on_hand for entry in [*first.items, *second.items]] == [1, 2, 3, 4, 5]
    assert {entry.product_id for entry in [*first.items, *second.items]} == {product.id}
    assert second.next_key is None


def test_an_entry_is_found_in_its_own_products_ledger_only(database: Database) -> None:
    product, other = make_product(database), make_product(database)
    entry = adjust_stock(database, product, 1)

    def read(number: int, entry_id: int) -> int:
        return database.transact(lambda s: StockEntry.of(s, number, entry_id).id, write=False)

    assert read(product.id, entry.id) == entry.id
    for number, entry_id in ((other.id, entry.id), (product.id, entry.id + 1)):
        with pytest.raises(NotFound):
            read(number, entry_id)
