from collections.abc import Iterator
from itertools import product as combinations
from typing import get_args

import pytest

from models.catalogue.product_list import ProductFilter, ProductSort, find_products
from models.storage.database import Database
from models.storage.filtering import FEW
from tests.databases import KINDS
from tests.factories import ROOT
from tests.models.plans import Plan, explain
from tests.models.stocked import ROWS, stocked_database

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M20")]

SORTS: tuple[ProductSort, ...] = get_args(ProductSort)
MIDDLE: dict[str, list[int | str]] = {
    "created_at": [1500],
    "name": ["shirt 2", 1500],
    "price": [500, 1500],
}
BY_ID = frozenset({"ix_products_active_id", "pk_products"})
TERMS = frozenset(
    {
        "ix_product_terms_term_product_id",
        "pk_product_terms",
        "sqlite_autoindex_product_terms_1",
    }
)
BY_NAME = frozenset({"ix_products_active_name_key_id"})
BY_PRICE = frozenset({"ix_products_active_price_amount_id"})
BY_PRICE_IN_ONE_CURRENCY = frozenset({"ix_products_active_currency_price_amount_id"})


@pytest.fixture(scope="module", params=KINDS)
def stocked_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stocked(stocked_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with stocked_database(stocked_kind, tmp_path_factory.mktemp("stocked")) as database:
        yield database


def plans(database: Database, kind: str, wanted: ProductFilter, sort: ProductSort) -> list[Plan]:
    """Explain the first page of a list, and one from the middle."""
    return [
        plan
        for after in (None, MIDDLE[sort.removeprefix("-")])
        for plan in explain(
            database,
            kind,
            lambda s, after=after: find_products(  # type: ignore[misc]  # mypy infers no default
                s, wanted, by=ROOT, sort=sort, after=after, limit=25
            ),
        )
    ]


@pytest.mark.parametrize("question", [None, "shi", "shirt 7"])
@pytest.mark.parametrize("sort", SORTS)
def test_every_list_is_read_in_index_order(
    stocked: Database,
    stocked_kind: str,
    sort: ProductSort,
    question: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.storage.filtering.FEW", -1)
    choices = combinations(
        (True, False),
        (None, "EUR"),
        ((None, None), (100, None), (100, 200)),
        (None, True, False),
    )
    for active, currency, (least, most), in_stock in choices:
        wanted = ProductFilter(active, question, currency, least, most, in_stock)
        for plan in plans(stocked, stocked_kind, wanted, sort):
            assert plan.indexes, plan.text
            assert not plan.whole_tables, plan.text
            assert not plan.unbounded_sorts, plan.text


@pytest.mark.parametrize(
    ("currency", "order", "index"),
    [
        (None, "created_at", BY_ID),
        (None, "name", BY_NAME),
        (None, "price", BY_PRICE),
        ("EUR", "price", BY_PRICE_IN_ONE_CURRENCY),
    ],
)
def test_the_index_covers_every_filter(
    stocked: Database, stocked_kind: str, currency: str | None, order: str, index: frozenset[str]
) -> None:
    sorts = [sort for sort in SORTS if sort.removeprefix("-") == order]

    for active, sort in combinations((True, False), sorts):
        wanted = ProductFilter(active=active, currency=currency)
        for plan in plans(stocked, stocked_kind, wanted, sort):
            assert plan.indexes <= index, plan.text


@pytest.mark.parametrize("sort", SORTS)
def test_a_selective_filter_uses_its_own_index(
    stocked: Database, stocked_kind: str, sort: ProductSort
) -> None:
    assert FEW > ROWS
    for currency, in_stock in combinations((None, "EUR"), (None, True)):
        asked = ProductFilter(currency=currency, in_stock=in_stock, question="shirt 7")
        for plan in plans(stocked, stocked_kind, asked, sort):
            assert plan.indexes & TERMS, plan.text
            assert not plan.indexes & BY_NAME, plan.text
        if not sort.endswith("price"):
            dear = ProductFilter(currency=currency, in_stock=in_stock, price_min=900)
            index = BY_PRICE_IN_ONE_CURRENCY if currency else BY_PRICE
            for plan in plans(stocked, stocked_kind, dear, sort):
                assert plan.indexes & index, plan.text
                assert plan.indexes <= index | BY_ID, plan.text
