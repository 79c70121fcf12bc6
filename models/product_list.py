"""The list of products: what it can be narrowed down to, and in which order it comes."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, false, select
from sqlalchemy.orm import Session

from models.actor import Actor
from models.narrowing import Bounds, Narrowing, Selection
from models.page import Keys, Page
from models.product import Product
from models.product_search import asked_for

ProductSort = Literal["created_at", "-created_at", "name", "-name", "price", "-price"]

_KEYS: dict[str, Keys] = {
    "created_at": (Product.id,),
    "name": (Product.name_key, Product.id),
    "price": (Product.price_amount, Product.id),
}


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """Which products are wanted; `None` is no restriction. Prices are in minor units."""

    active: bool = True
    question: str | None = None
    currency: str | None = None
    price_min: int | None = None
    price_max: int | None = None
    in_stock: bool | None = None


def list_products(
    session: Session,
    wanted: ProductFilter,
    *,
    by: Actor | None,
    sort: ProductSort,
    after: list[int | str] | None,
    limit: int,
) -> Page[Product]:
    """Read one page of the products that somebody, or anybody, may know of."""
    query = select(Product).where(Product.seen_by(by), Product.active == wanted.active)
    across: list[Selection] = []
    within = _prices(wanted)
    if within and not sort.endswith("price"):
        across.append(Bounds(query, Product.price_amount, within))
        within = []
    if wanted.question is not None:
        asked = asked_for(wanted.question, Product.id)
        across += asked
        query = query if asked else query.where(false())
    if wanted.in_stock is not None:
        has_some = Product.on_hand > Product.reserved
        query = query.where(has_some if wanted.in_stock else ~has_some)
    return Page.read(
        session,
        query,
        _KEYS[sort.removeprefix("-")],
        after=after,
        limit=limit,
        descending=sort.startswith("-"),
        narrowed=Narrowing(within=within, across=across),
    )


def _prices(wanted: ProductFilter) -> list[ColumnElement[bool]]:
    """Give what the indexes of prices have: the prices themselves, and those of one currency."""
    conditions = []
    if wanted.currency is not None:
        conditions.append(Product.currency == wanted.currency)
    if wanted.price_min is not None:
        conditions.append(Product.price_amount >= wanted.price_min)
    if wanted.price_max is not None:
        conditions.append(Product.price_amount <= wanted.price_max)
    return conditions
