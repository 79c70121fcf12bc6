"""The list of products: its filters and sort orders."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, false, select

from models.actor import Actor
from models.catalogue.product import Product
from models.catalogue.product_search import PRODUCT_WORDS
from models.storage.filtering import Bounds, ListFilter, Selection
from models.storage.page import Keys, Listing, Page
from models.storage.reader import Reader

ProductSort = Literal["created_at", "-created_at", "name", "-name", "price", "-price"]

_KEYS: dict[str, Keys] = {
    "created_at": (Product.id,),
    "name": (Product.name_key, Product.id),
    "price": (Product.price_amount, Product.id),
}


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """Filters for the list of products. `None` means no restriction. Prices are in minor units."""

    active: bool = True
    question: str | None = None
    currency: str | None = None
    price_min: int | None = None
    price_max: int | None = None
    in_stock: bool | None = None


def find_products(
    reader: Reader,
    wanted: ProductFilter,
    *,
    by: Actor | None,
    sort: ProductSort,
    after: list[int | str] | None,
    limit: int,
) -> Page[Product]:
    """Return one page of the products visible to the actor, or to the public if there is none."""
    query = select(Product).where(Product.seen_by(by), Product.active == wanted.active)
    across: list[Selection] = []
    within = _prices(wanted)
    if within and not sort.endswith("price"):
        across.append(Bounds(query, Product.price_amount, within))
        within = []
    if wanted.question is not None:
        asked = PRODUCT_WORDS.asked_for(wanted.question, Product.id)
        across += asked
        query = query if asked else query.where(false())
    if wanted.in_stock is not None:
        has_some = Product.on_hand > Product.reserved
        query = query.where(has_some if wanted.in_stock else ~has_some)
    listing = Listing(
        query,
        _KEYS[sort.removeprefix("-")],
        descending=sort.startswith("-"),
        narrowed=ListFilter(within=within, across=across),
    )
    return listing.page(reader, after=after, limit=limit)


def _prices(wanted: ProductFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on price and currency, which the price indexes cover."""
    conditions = []
    if wanted.currency is not None:
        conditions.append(Product.currency == wanted.currency)
    if wanted.price_min is not None:
        conditions.append(Product.price_amount >= wanted.price_min)
    if wanted.price_max is not None:
        conditions.append(Product.price_amount <= wanted.price_max)
    return conditions
