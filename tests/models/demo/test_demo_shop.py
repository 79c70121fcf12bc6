from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from models.catalogue.product import Product
from models.catalogue.stock_entry import StockEntry
from models.demo.demo_shop import Added, seed_demo
from models.identity.password import OWASP, Passwords
from models.identity.user import User
from models.money import currencies
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.storage.database import Database
from tests.databases import KINDS, make_database_url
from tests.factories import LIFECYCLE
from tests.models.actions import adjust_stock, change_product, erase_user
from tests.models.books import check_books

PASSWORDS = Passwords(parameters=replace(OWASP, time_cost=1, memory_cost=8))
EVERYTHING = Added(accounts=40, products=60, orders=200)


@pytest.fixture(scope="module", params=KINDS)
def seeded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database with the demo in it, for tests that only look at it: filling it takes seconds."""
    with make_database_url(request.param, tmp_path_factory.mktemp("demo")) as url:
        database = Database(url)
        assert seed_demo(database, PASSWORDS, LIFECYCLE, count=40) == EVERYTHING
        yield database
        database.dispose()


def read_products(database: Database) -> Sequence[Product]:
    query = select(Product).order_by(Product.id)
    return database.transact(lambda session: session.scalars(query).all(), write=False)


def read_orders(database: Database) -> Sequence[Order]:
    query = select(Order).options(selectinload(Order.lines)).order_by(Order.id)
    return database.transact(lambda session: session.scalars(query).all(), write=False)


def read_shop(database: Database) -> User:
    query = select(User).where(User.email == "demo.shop@example.com")
    return database.transact(lambda session: session.scalars(query).one(), write=False)


def test_demo_products_are_plausible(seeded: Database) -> None:
    products = read_products(seeded)
    assert {currencies()[product.currency].minor_units for product in products} == {0, 2, 3}
    assert len({product.name for product in products}) == 60
    for product in products:
        whole = product.price_amount / 10 ** currencies()[product.currency].minor_units
        yen = 160 if product.currency == "JPY" else 1
        assert 1 < whole / yen < 1000
    assert Counter(product.active for product in products)[False] == 5
    assert Counter(product.on_hand for product in products)[0] == 5
    assert all(product.active for product in products if not product.on_hand)
    assert len([product for product in products if not product.description]) > 5
    assert len([product for product in products if not product.labels]) > 5


def test_demo_orders_cover_every_state_and_the_books_balance(seeded: Database) -> None:
    check_books(seeded)
    orders = read_orders(seeded)
    counts = Counter(order.status for order in orders)
    assert counts.keys() == LIFECYCLE.actions.keys()
    assert min(counts.values()) > 10
    assert {len(order.lines) for order in orders} == {1, 2, 3}
    assert len({order.currency for order in orders}) == 5
    assert len([order for order in orders if 0 < order.paid_amount < order.total_amount]) > 10
    assert len([order for order in orders if 0 < order.refunded_amount < order.paid_amount]) > 10
    kinds = set(seeded.transact(lambda s: s.scalars(select(StockEntry.kind)).all(), write=False))
    assert kinds == {"adjustment", "reservation", "release", "shipment", "return"}
    actions = set(
        seeded.transact(lambda s: s.scalars(select(OrderEvent.action)).all(), write=False)
    )
    assert actions == {
        "create", "update", "pay", "cancel", "ship", "deliver", "refund", "expire",
    }  # fmt: skip


def test_pending_demo_orders_stay_for_a_month(seeded: Database) -> None:
    for order in read_orders(seeded):
        if order.expires_at is not None:
            assert (order.expires_at - order.created_at).days == 30


def test_customers_order_and_a_service_account_does_the_rest(seeded: Database) -> None:
    shop = read_shop(seeded)
    assert (shop.role, shop.active, shop.password_hash) == ("user", False, None)
    customers = {order.id: order.user_id for order in read_orders(seeded)}
    assert shop.id not in customers.values()
    for event in seeded.transact(lambda s: s.scalars(select(OrderEvent)).all(), write=False):
        customer = customers[event.order_id]
        by = {"create": customer, "update": customer, "cancel": customer, "expire": None}
        assert event.actor_id == by.get(event.action, shop.id)


def test_the_demo_shop_is_reproducible(seeded: Database) -> None:
    products = read_products(seeded)
    assert [(product.name, product.sku, product.price_amount) for product in products[:5]] == [
        ("Élan desk lamp", "DEMO-ELAN-LAMP", 8890),
        ("Prairie desk lamp", "DEMO-PRAIRIE-LAMP", 9799),
        ("Harbour desk lamp", "DEMO-HARBOUR-LAMP", 7549),
        ("北山 desk lamp", "DEMO-KITAYAMA-LAMP", 14240),
        ("Dhow desk lamp", "DEMO-DHOW-LAMP", 29800),
    ]
    orders = {int(order.labels["demo_order"]): order for order in read_orders(seeded)}
    assert sorted(orders) == list(range(200))
    assert [(line.name, line.quantity) for line in orders[47].lines] == [
        ("Harbour bookmark", 2),
        ("Harbour notebook", 2),
        ("Harbour reading chair", 3),
    ]
    assert (orders[0].status, orders[47].status) == ("pending", "paid")


def test_seeding_again_adds_only_what_is_missing(database: Database) -> None:
    calls: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        calls.append((done, of))

    for added in (EVERYTHING, Added(0, 0, 0)):
        assert seed_demo(database, PASSWORDS, LIFECYCLE, count=40, progress=progress) == added
        assert calls == sorted(calls)
        assert calls[-1] == (300, 300)
        calls.clear()
    orders = Counter(order.user_id for order in read_orders(database))
    [(customer, ordered)] = orders.most_common(1)
    erase_user(database, customer)
    lamp = read_products(database)[0]
    database.transact(
        lambda session: session.get_one(Product, lamp.id).archive(session), write=True
    )

    assert seed_demo(database, PASSWORDS, LIFECYCLE, count=40) == Added(1, 1, ordered)
    assert len(read_orders(database)) == 200 + ordered


def test_orders_that_cannot_be_placed_are_left_out(database: Database) -> None:
    seed_demo(database, PASSWORDS, LIFECYCLE, count=1)
    erase_user(database, read_orders(database)[0].user_id)
    for product in read_products(database):
        if product.available:
            adjust_stock(database, product, -product.available)
    first = read_products(database)[0]
    change_product(database, first, price={"amount": 0, "currency": "EUR"})

    assert seed_demo(database, PASSWORDS, LIFECYCLE, count=1) == Added(1, 0, 0)
