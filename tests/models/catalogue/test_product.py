from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from models.catalogue.product import Product
from models.errors import NotFound, SkuTaken, VersionMismatch
from models.money import Money
from models.storage.database import Database
from tests.factories import ROOT, Person, make_admin, make_buyer, make_order, make_product
from tests.models.actions import adjust_stock, archive_product, change_product
from tests.models.books import everything
from tests.models.reading import read_product
from tests.models.together import together

pytestmark = pytest.mark.mission("M16")


def test_a_new_product_is_active_without_stock(database: Database) -> None:
    before = datetime.now(UTC)

    product = make_product(
        database, sku="TS-1", name="T-shirt", price=1999, currency="USD", stock=0
    )

    assert (product.sku, product.name, product.description) == ("TS-1", "T-shirt", "")
    assert (product.active, product.labels, product.archived_at) == (True, {}, None)
    assert product.price == Money(1999, "USD")
    assert product.stock == (0, 0, 0)
    assert product.version == 1
    assert before <= product.created_at == product.updated_at <= datetime.now(UTC)


def test_a_product_is_stored_completely(database: Database) -> None:
    product = make_product(
        database,
        sku="a/B.c_d-9",
        name="Stra\u00dfe \U0001f600",
        description="Two lines,\n\tand a tab.",
        price=999_999_999_999,
        currency="JPY",
        active=False,
        metadata={"colour": "r\u00f6t", "size": ""},
    )

    read = read_product(database, product)

    assert (read.sku, read.name) == ("a/B.c_d-9", "Stra\u00dfe \U0001f600")
    assert read.description == "Two lines,\n\tand a tab."
    assert read.price == Money(999_999_999_999, "JPY")
    assert read.labels == {"colour": "r\u00f6t", "size": ""}
    assert not read.active


def test_a_sku_is_unique_in_any_case(database: Database) -> None:
    first, other = make_product(database, sku="Ts-Red"), make_product(database, sku="TS-BLUE")
    before = everything(database)

    for twin in ("Ts-Red", "ts-red", "TS-RED"):
        with pytest.raises(SkuTaken):
            make_product(database, sku=twin)
        with pytest.raises(SkuTaken):
            change_product(database, other, sku=twin, name="Another name")

    assert everything(database) == before
    assert change_product(database, first, sku="TS-RED").sku == "TS-RED"


def test_concurrent_creations_of_a_sku_make_one_product(database: Database) -> None:
    make_admin(database)

    results = together(
        *(lambda sku=sku: make_product(database, sku=sku) for sku in ("ab", "aB", "Ab", "AB"))
    )

    assert sorted(type(result).__name__ for result in results) == ["Product"] + ["SkuTaken"] * 3


def test_archiving_frees_the_sku(database: Database) -> None:
    first = make_product(database, sku="TS-1")
    archive_product(database, first)

    second = make_product(database, sku="ts-1")
    archive_product(database, second)

    assert make_product(database, sku="TS-1").id > second.id > first.id


def test_omitted_members_stay_unchanged(database: Database) -> None:
    product = make_product(database, name="Mug", description="Blue.", metadata={"a": "1"})

    changed = change_product(database, product, price={"amount": 700, "currency": "GBP"})

    assert (changed.name, changed.description, changed.labels) == ("Mug", "Blue.", {"a": "1"})
    assert (changed.sku, changed.active) == (product.sku, True)
    assert changed.price == Money(700, "GBP")
    assert changed.version == product.version + 1
    assert changed.updated_at > changed.created_at


def test_metadata_is_replaced_as_a_whole(database: Database) -> None:
    product = make_product(database, metadata={"a": "1", "b": "2"})

    change_product(database, product, metadata={"b": "3"})

    assert read_product(database, product).labels == {"b": "3"}


def test_a_change_without_effect_changes_nothing(database: Database) -> None:
    product = make_product(database, name="Mug", metadata={"a": "1"})
    before = everything(database)

    change_product(
        database,
        product,
        name="Mug",
        sku=product.sku,
        price={"amount": 1500, "currency": "EUR"},
        active=True,
        metadata={"a": "1"},
    )

    assert everything(database) == before


def test_only_administrators_see_inactive_products(database: Database) -> None:
    shown, hidden = make_product(database), make_product(database, active=False)
    buyer, admin = make_buyer(database), make_admin(database)

    def sees(actor: Person | None, product: Product) -> bool:
        try:
            database.transact(lambda s: Product.visible_to(s, actor, product.id), write=False)
        except NotFound:
            return False
        return True

    def seen() -> list[tuple[bool, bool]]:
        return [(sees(actor, shown), sees(actor, hidden)) for actor in (None, buyer, admin)]

    assert seen() == [(True, False), (True, False), (True, True)]
    archive_product(database, shown)
    archive_product(database, hidden)
    assert seen() == [(False, False)] * 3


def test_only_administrators_change_products_unless_archived(database: Database) -> None:
    product, buyer = make_product(database), make_buyer(database)

    def change(actor: Person, product_id: int) -> None:
        database.transact(lambda s: Product.lock_visible(s, actor, product_id), write=True)

    change(ROOT, product.id)
    for actor, product_id in ((buyer, product.id), (ROOT, product.id + 1)):
        with pytest.raises(NotFound):
            change(actor, product_id)
    archive_product(database, product)
    with pytest.raises(NotFound):
        change(ROOT, product.id)


def test_an_archived_product_stays_in_its_orders(database: Database) -> None:
    product = make_product(database, name="Mug", stock=5)
    order = make_order(database, lines=[(product, 2)])

    archive_product(database, product)

    archived = read_product(database, product)
    assert archived.archived_at is not None
    assert not archived.can_be_ordered
    assert archived.stock == (5, 2, 3)
    assert [line.product_id for line in order.lines] == [product.id]


def test_only_active_products_can_be_ordered(database: Database) -> None:
    product = make_product(database)

    assert product.can_be_ordered
    assert not change_product(database, product, active=False).can_be_ordered


def test_a_change_requires_a_known_version(database: Database) -> None:
    product = make_product(database, stock=0)

    product.require_version(None)
    product.require_version(frozenset({1, 7}))
    for versions in (frozenset({2}), frozenset[int]()):
        with pytest.raises(VersionMismatch):
            product.require_version(versions)


def test_one_of_changes_to_one_version_succeeds(database: Database) -> None:
    product = make_product(database, stock=0)

    def rename(name: str) -> None:
        def work(session: Session) -> None:
            found = Product.lock_visible(session, ROOT, product.id)
            found.require_version(frozenset({1}))
            found.change(session, {"name": name})

        database.transact(work, write=True)

    results = together(*(lambda name=name: rename(name) for name in "ABCDEF"))

    assert (
        sorted(type(result).__name__ for result in results)
        == ["NoneType"] + ["VersionMismatch"] * 5
    )
    assert read_product(database, product).version == 2


def test_every_stock_change_makes_a_new_version(database: Database) -> None:
    product = make_product(database, stock=0)

    adjust_stock(database, product, 5)
    adjusted = read_product(database, product)
    make_order(database, lines=[(product, 1)])
    reserved = read_product(database, product)

    assert (adjusted.version, reserved.version) == (2, 3)
    assert product.updated_at < adjusted.updated_at < reserved.updated_at
