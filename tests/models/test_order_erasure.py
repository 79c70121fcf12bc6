from pathlib import Path

import pytest

from models.orders.order import Order
from models.storage.database import Database
from tests.databases import make_database_url
from tests.factories import STATUSES, Person, make_buyer, make_order, make_product
from tests.models.actions import pay, refund, ship, update
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order

pytestmark = pytest.mark.mission("M16")

SECRET = "Zebedee"
"""Is in everything that tells who the customer is."""

ADDRESS = {
    "name": f"{SECRET} Quill",
    "line1": f"{SECRET} Street 1",
    "line2": f"c/o {SECRET}",
    "city": f"{SECRET}ville",
    "region": SECRET,
    "postal_code": SECRET,
    "country": "GB",
}


def make_secret_orders(database: Database, buyer: Person) -> list[Order]:
    """Place orders in all states, with the secret wherever a text can be."""
    product = make_product(database, stock=100)
    orders = [
        make_order(
            database,
            status=status,
            buyer=buyer,
            lines=[(product, 3)],
            paid=1,
            note=f"For {SECRET}.",
            shipping_address=ADDRESS,
            metadata={SECRET: "a", "b": SECRET},
        )
        for status in STATUSES
    ]
    update(database, orders[0], note=f"For {SECRET} again.")
    ship(database, orders[1], [(product, 1)], tracking_number=f"{SECRET}1")
    refund(database, orders[1], 5, restock=[(product, 1)], reason=f"{SECRET} changed his mind.")
    return orders


def forget(database: Database, buyer: Person) -> None:
    database.transact(lambda s: Order.forget(s, buyer.user_id), write=True)


def test_nothing_identifying_the_customer_is_left(database: Database) -> None:
    buyer = make_buyer(database)
    make_secret_orders(database, buyer)
    assert SECRET in str(everything(database))

    forget(database, buyer)

    for table, rows in everything(database).items():
        assert SECRET not in str(rows), table


def test_sales_and_amounts_are_kept(database: Database) -> None:
    buyer = make_buyer(database)
    orders = make_secret_orders(database, buyer)
    before = [read_order(database, order) for order in orders]
    told = [read_events(database, order) for order in orders]

    forget(database, buyer)

    for was, events in zip(before, told, strict=True):
        now = read_order(database, was)
        assert (now.status, now.total, now.paid, now.refunded, now.expires_at) == (
            was.status,
            was.total,
            was.paid,
            was.refunded,
            was.expires_at,
        )
        assert (now.note, now.shipping_address, now.labels) == (None, None, {})
        assert [line.quantity for line in now.lines] == [3]
        assert [
            (event.number, event.action, event.amount, event.method, event.reference, event.carrier)
            for event in read_events(database, was)
        ] == [
            (event.number, event.action, event.amount, event.method, event.reference, event.carrier)
            for event in events
        ]
    check_books(database, redacted=True)


def test_every_order_of_the_customer_gets_a_new_version(database: Database) -> None:
    buyer = make_buyer(database)
    order = make_order(database, buyer=buyer)

    forget(database, buyer)

    forgotten = read_order(database, order)
    assert forgotten.version == 2
    assert forgotten.updated_at > order.updated_at
    assert pay(database, order).version == 3
    assert [event.number for event in read_events(database, order)] == [1, 3]
    check_books(database, redacted=True)


def test_orders_of_others_stay_unchanged(database: Database) -> None:
    buyer, other = make_buyer(database), make_buyer(database)
    make_secret_orders(database, other)
    before = everything(database)

    forget(database, buyer)

    assert everything(database) == before


def test_nothing_is_left_in_the_sqlite_file(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        database = Database(url)
        buyer, other = make_buyer(database), make_buyer(database)
        make_order(database, buyer=other, note="Not his.")
        make_secret_orders(database, buyer)
        make_order(database, buyer=other, note="Not his either.")
        forget(database, buyer)
        database.dispose()

        (file,) = tmp_path.glob("*.db*")
        assert b"Not his either." in file.read_bytes()
        assert SECRET.encode() not in file.read_bytes()
