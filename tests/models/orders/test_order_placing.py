from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from models.catalogue.product import Product
from models.errors import (
    DomainError,
    InvalidAmount,
    InvalidLines,
    MixedCurrencies,
    OutOfStock,
    UnknownProduct,
)
from models.money import MAX_AMOUNT, Money
from models.storage.database import Database
from models.storage.identifiers import instant_of
from tests.factories import Lines, make_buyer, make_order, make_product
from tests.models.actions import archive_product, change_product, place, ship
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order, read_product

pytestmark = pytest.mark.mission("M16")


def pointers(error: DomainError) -> list[str]:
    return list(error.violations)


def test_an_order_keeps_current_prices_names_and_skus(database: Database) -> None:
    mug = make_product(database, sku="MUG", name="Mug", price=700)
    shirt = make_product(database, sku="TS", name="T-shirt", price=1999)
    order = place(database, make_buyer(database), [(shirt, 2), (mug, 3)])
    change_product(database, shirt, sku="NEW", name="New", price={"amount": 1, "currency": "JPY"})
    archive_product(database, mug)

    lines = read_order(database, order).lines

    assert [(line.product_id, line.sku, line.name) for line in lines] == [
        (shirt.id, "TS", "T-shirt"),
        (mug.id, "MUG", "Mug"),
    ]
    assert [line.unit_price for line in lines] == [Money(1999, "EUR"), Money(700, "EUR")]
    assert [line.total for line in lines] == [Money(3998, "EUR"), Money(2100, "EUR")]
    assert [(line.quantity, line.shipped, line.returned) for line in lines] == [
        (2, 0, 0),
        (3, 0, 0),
    ]


def test_a_new_order_is_pending(database: Database) -> None:
    buyer, product, before = make_buyer(database), make_product(database), datetime.now(UTC)

    placed = place(database, buyer, [(product, 3)], reservation=timedelta(minutes=5))

    after, order = datetime.now(UTC), read_order(database, placed)
    assert (order.user_id, order.status, order.version) == (buyer.user_id, "pending", 1)
    assert (order.total, order.paid, order.refunded) == (
        Money(4500, "EUR"),
        Money(0, "EUR"),
        Money(0, "EUR"),
    )
    assert order.expires_at is not None
    assert before <= order.expires_at - timedelta(minutes=5) <= after
    assert order.created_at == instant_of(order.id)
    assert before - timedelta(milliseconds=1) < order.created_at <= order.updated_at <= after
    assert (order.note, order.shipping_address, order.labels) == (None, None, {})
    assert read_product(database, product).stock == (10, 3, 7)


def test_details_are_stored(database: Database) -> None:
    address = {"name": "Zoë", "line1": "Rua 1", "city": "Évora", "country": "PT"}

    order = make_order(
        database, note="Ring twice.\n", shipping_address=address, metadata={"gift": "yes"}
    )

    read = read_order(database, order)
    assert (read.note, read.shipping_address, read.labels) == (
        "Ring twice.\n",
        address,
        {"gift": "yes"},
    )


def test_placing_is_the_first_event(database: Database) -> None:
    buyer = make_buyer(database)
    order = make_order(database, buyer=buyer)

    (event,) = read_events(database, order)

    assert (event.number, event.action, event.status) == (1, "create", "pending")
    assert (event.actor_id, event.amount, event.lines) == (buyer.user_id, None, [])
    assert event.created_at == order.updated_at


def test_a_free_order_is_paid_from_the_start(database: Database) -> None:
    product = make_product(database, price=0)

    order = make_order(database, lines=[(product, 3)])

    assert (order.status, order.expires_at, order.total) == ("paid", None, Money(0, "EUR"))
    assert ship(database, order).status == "shipped"
    check_books(database)


def test_a_product_appears_on_one_line_only(database: Database) -> None:
    product, other, buyer = make_product(database), make_product(database), make_buyer(database)
    before = everything(database)

    with pytest.raises(InvalidLines) as refused:
        place(database, buyer, [(product, 1), (other, 1), (product, 2)])

    assert refused.value.violations == {"/lines/2/product_id": "already appears on another line"}
    assert everything(database) == before


def never_stored(database: Database) -> Product:
    return Product(id=make_product(database).id + 1)


def archived(database: Database) -> Product:
    product = make_product(database)
    archive_product(database, product)
    return product


def inactive(database: Database) -> Product:
    return make_product(database, active=False)


@pytest.mark.parametrize("make_unknown", [never_stored, archived, inactive])
def test_a_product_that_is_not_for_sale_cannot_be_ordered(
    database: Database, make_unknown: Callable[[Database], Product]
) -> None:
    product, buyer = make_product(database), make_buyer(database)
    unknown = make_unknown(database)
    before = everything(database)

    with pytest.raises(UnknownProduct) as refused:
        place(database, buyer, [(product, 1), (unknown, 1)])

    assert pointers(refused.value) == ["/lines/1/product_id"]
    assert everything(database) == before


def test_all_lines_are_in_one_currency(database: Database) -> None:
    buyer = make_buyer(database)
    currencies = ("EUR", "USD", "EUR", "JPY")
    lines = [(make_product(database, currency=currency), 1) for currency in currencies]
    before = everything(database)

    with pytest.raises(MixedCurrencies) as refused:
        place(database, buyer, lines)

    assert pointers(refused.value) == ["/lines/1/product_id", "/lines/3/product_id"]
    assert everything(database) == before


def test_every_shortage_is_reported_and_nothing_reserved(database: Database) -> None:
    few, many, none = (make_product(database, stock=stock) for stock in (3, 100, 0))
    make_order(database, lines=[(few, 1)])
    buyer, before = make_buyer(database), everything(database)

    with pytest.raises(OutOfStock) as refused:
        place(database, buyer, [(few, 3), (many, 100), (none, 1)])

    assert refused.value.extensions == {
        "shortages": [
            {"pointer": "/lines/0", "product_id": few.id, "wanted": 3, "available": 2},
            {"pointer": "/lines/2", "product_id": none.id, "wanted": 1, "available": 0},
        ]
    }
    assert everything(database) == before


def test_the_last_unit_can_be_ordered(database: Database) -> None:
    product = make_product(database, stock=3)

    make_order(database, lines=[(product, 3)])

    assert read_product(database, product).stock == (3, 3, 0)
    with pytest.raises(OutOfStock):
        make_order(database, lines=[(product, 1)])


def largest(database: Database) -> Lines:
    """Lines that cost exactly as much as an order can."""
    quantity = 69431
    assert MAX_AMOUNT % quantity == 0
    return [(make_product(database, price=MAX_AMOUNT // quantity, stock=quantity), quantity)]


def test_the_total_of_an_order_is_bounded(database: Database) -> None:
    buyer, lines = make_buyer(database), largest(database)
    assert make_order(database, lines=lines).total == Money(MAX_AMOUNT, "EUR")

    dearer = [*largest(database), (make_product(database, price=1), 1)]
    before = everything(database)
    with pytest.raises(InvalidAmount) as refused:
        place(database, buyer, dearer)

    assert pointers(refused.value) == ["/lines"]
    assert everything(database) == before


def test_a_total_beyond_the_database_range_is_refused(database: Database) -> None:
    lines = [
        (make_product(database, price=999_999_999_999, stock=100_000), 100_000) for _ in range(100)
    ]

    with pytest.raises(InvalidAmount):
        make_order(database, lines=lines)


def test_lines_keep_their_order(database: Database) -> None:
    products = [make_product(database) for _ in range(20)][::-1]

    order = make_order(database, lines=[(product, 1) for product in products])

    read = read_order(database, order)
    assert [line.product_id for line in read.lines] == [product.id for product in products]
    check_books(database)
