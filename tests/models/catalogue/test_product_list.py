import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product as combinations
from typing import get_args

import pytest

from models.catalogue.product import Product
from models.catalogue.product_list import ProductFilter, ProductSort
from models.storage.database import Database
from models.storage.filtering import FEW
from models.text import COLLATION_KEY_LENGTH, collation_key
from tests.factories import Person, make_admin, make_buyer, make_order, make_product
from tests.models.actions import archive_product, change_product
from tests.models.reading import ALL_PRODUCTS, read_product, read_products

pytestmark = pytest.mark.mission("M16")

SORTS: tuple[ProductSort, ...] = get_args(ProductSort)


def walk(
    database: Database,
    wanted: ProductFilter = ALL_PRODUCTS,
    *,
    by: Person | None = None,
    sort: ProductSort = "created_at",
    limit: int = 100,
) -> list[int]:
    """Walk a list as a client does: what a page gives for the next one goes through JSON."""
    found: list[int] = []
    after = None
    while True:
        page = read_products(database, wanted=wanted, by=by, sort=sort, after=after, limit=limit)
        found += [product.id for product in page.items]
        if page.next_key is None:
            return found
        assert len(page.items) == limit
        after = json.loads(json.dumps(page.next_key))


def by_hand(products: Sequence[Product], wanted: ProductFilter, sort: ProductSort) -> list[int]:
    """Filter and sort some products, without the database."""
    found = [
        product
        for product in products
        if product.active == wanted.active
        and wanted.currency in (None, product.currency)
        and (wanted.price_min is None or product.price_amount >= wanted.price_min)
        and (wanted.price_max is None or product.price_amount <= wanted.price_max)
        and wanted.in_stock in (None, product.available > 0)
        and (wanted.question is None or "red" in product.name.lower())
    ]
    keys = {
        "created_at": lambda product: product.id,
        "name": lambda product: (collation_key(product.name), product.id),
        "price": lambda product: (product.price_amount, product.id),
    }
    found.sort(key=keys[sort.removeprefix("-")], reverse=sort.startswith("-"))
    return [product.id for product in found]


@pytest.mark.parametrize("few", [3, FEW])
def test_lists_equal_filtering_and_sorting_in_python(
    database: Database, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("models.storage.filtering.FEW", few)
    made = [
        make_product(
            database,
            name=("Red mug", "Blue shirt", "A red sock")[number % 3],
            price=(100, 200, 300, 200)[number % 4],
            currency=("EUR", "USD")[number % 5 == 0],
            stock=number % 2,
            active=number % 7 != 0,
        )
        for number in range(18)
    ]
    make_order(database, lines=[(made[1], 1)])
    products = [read_product(database, product) for product in made]
    assert products[1].stock == (1, 1, 0)

    every_list = combinations(
        (True, False),
        (None, "red"),
        (None, "EUR"),
        ((None, None), (200, None), (150, 250)),
        (None, True, False),
        SORTS,
    )
    admin = make_admin(database)
    # All of them would take a quarter of a minute.
    some = random.Random(few).sample(list(every_list), 80)  # noqa: S311 - the same lists every time
    for active, question, currency, (least, most), in_stock, sort in some:
        wanted = ProductFilter(active, question, currency, least, most, in_stock)
        expected = by_hand(products, wanted, sort)
        assert walk(database, wanted, by=admin, sort=sort, limit=3) == expected
        assert walk(database, wanted, sort=sort) == (expected if active else [])


def test_only_administrators_list_inactive_products(database: Database) -> None:
    shown, hidden = make_product(database), make_product(database, active=False)
    inactive = replace(ALL_PRODUCTS, active=False)
    admin = make_admin(database)

    for actor in (None, make_buyer(database), admin):
        assert walk(database, by=actor) == [shown.id]
        assert walk(database, inactive, by=actor) == ([hidden.id] if actor == admin else [])


def test_archived_products_are_not_listed(database: Database) -> None:
    kept, gone = make_product(database, name="Mug"), make_product(database, name="Mug")
    archive_product(database, gone)
    admin = make_admin(database)

    assert walk(database, by=admin) == [kept.id]
    assert walk(database, replace(ALL_PRODUCTS, active=False), by=admin) == []
    assert walk(database, replace(ALL_PRODUCTS, question="mug"), by=admin) == [kept.id]


NAMES = [
    *("zebra", "Zebra", "apple", "Apple pie", "\u00c4pfel", "A\u0308pfel", "apfel"),
    *("\u00e9clair", "E\u0301CLAIR", "eclair", "Stra\u00dfe", "STRASSE", "strasse 2"),
    *("10", "9", "_", "-", " x", "\u03a9mega", "\u0416\u0443\u043a", "\u65e5\u672c", "\ua66e"),
    *("\U00020000", "\U0001f600", "\uff5e", "\ufb01g", "fig", "\u0130stanbul", "\u0131x"),
    *("a b", "a-b", "ab", "a\u00a0b", "a" * 60 + "z", "a" * 60 + "b", "a" * 60 + "z"),
]


def test_both_databases_sort_names_alike_in_every_alphabet(database: Database) -> None:
    products = [make_product(database, name=name, stock=0) for name in NAMES]

    for sort in ("name", "-name"):
        expected = by_hand(products, ALL_PRODUCTS, sort)
        for limit in (1, 7, 100):
            assert walk(database, sort=sort, limit=limit) == expected


IN_ORDER = [
    *("  ", "_", "\u201cquoted\u201d", "10", "9", "a" * 199 + "b", "A" * 199 + "c", "aeon", "æon"),
    *("apfel", "Äpfel", "apple", "cafe", "Café", "cafes", "eclair", "Éclair", "eclairs", "lozko"),
    *("Łóżko", "lozkp", "ore", "øre", "orf", "q", "strasse", "straße", "Zebra", "Ωmega", "Жук"),
    *("हिन्दी", "日本"),
]


def test_names_are_sorted_as_people_expect(database: Database) -> None:
    for name in random.Random(1).sample(IN_ORDER, len(IN_ORDER)):  # noqa: S311 - as above.
        make_product(database, name=name, stock=0)

    items = read_products(database, sort="name").items
    assert [product.name for product in items] == IN_ORDER


@pytest.mark.parametrize("first", ["a", "\u1ea4", "\u3300", "\u4e00", "\ufdfa", "\U0001f600"])
def test_the_longest_names_are_sorted(database: Database, first: str) -> None:
    source = random.Random(first)  # noqa: S311 - the same names every time
    names = ["".join(chr(ord(first) + source.randrange(80)) for _ in range(200)) for _ in range(3)]
    products = [make_product(database, name=name, stock=0) for name in names]

    assert all(len(collation_key(name)) <= COLLATION_KEY_LENGTH for name in names)
    for sort in ("name", "-name"):
        assert walk(database, sort=sort, limit=1) == by_hand(products, ALL_PRODUCTS, sort)


def test_equivalent_names_are_sorted_by_age(database: Database) -> None:
    twins = ["\u00c9clair", "e\u0301clair", "E\u0301CLAIR", "\u00e9clair"]
    products = [make_product(database, name=name).id for name in twins]

    assert walk(database, sort="name", limit=1) == products
    assert walk(database, sort="-name", limit=1) == products[::-1]


def test_a_renamed_product_changes_its_position(database: Database) -> None:
    first, second = make_product(database, name="a"), make_product(database, name="b")

    change_product(database, first, name="C")

    assert walk(database, sort="name") == [second.id, first.id]


@pytest.mark.parametrize("sort", SORTS)
def test_paging_neither_repeats_nor_skips_unchanged_rows(
    database: Database, sort: ProductSort
) -> None:
    products = [
        make_product(database, name=f"Name {number % 3}", price=number % 3, stock=0)
        for number in range(12)
    ]
    stayed, walked = {product.id for product in products}, list[int]()
    after = None

    while True:
        page = read_products(database, sort=sort, after=after, limit=3)
        walked += [product.id for product in page.items]
        if page.next_key is None:
            break
        after = json.loads(json.dumps(page.next_key))
        make_product(database, name="Name 1", price=1, stock=0)
        leaver = products.pop(len(products) // 2)
        archive_product(database, leaver)
        stayed.remove(leaver.id)
        assert len(walked) < 40

    assert len(walked) == len(set(walked))
    assert stayed <= set(walked)
