"""The catalogue, as customers and administrators see it."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from api.security import Caller
from models.money import CURRENCIES, CurrencyInfo
from models.page import Page
from models.product import Product, ProductChanges
from models.product_list import ProductFilter, ProductSort
from models.product_list import list_products as read_products


def list_currencies() -> dict[str, Iterable[CurrencyInfo]]:
    """List the currencies that a price can be in."""
    return {"items": list(CURRENCIES.values())}


def list_products(
    session: Session,
    caller: Caller | None,
    q: str | None,
    currency: str | None,
    price_min: int | None,
    price_max: int | None,
    in_stock: bool | None,
    active: bool,
    sort: ProductSort,
    cursor: list[int | str] | None,
    limit: int,
) -> Page[Product]:
    """List what is for sale; administrators can ask for what is not."""
    wanted = ProductFilter(active, q, currency, price_min, price_max, in_stock)
    return read_products(session, wanted, by=caller, sort=sort, after=cursor, limit=limit)


def create_product(session: Session, body: ProductChanges) -> Product:
    """Add a product."""
    return Product.create(session, body)


def get_product(session: Session, caller: Caller | None, product_id: int) -> Product:
    """Read a product that the caller may see."""
    return Product.visible_to(session, caller, product_id)


def update_product(
    session: Session,
    caller: Caller,
    product_id: int,
    body: ProductChanges,
    if_match: frozenset[int] | None,
) -> Product:
    """Change what is given of a product."""
    product = Product.changeable_by(session, caller, product_id)
    product.require_version(if_match)
    product.change(session, body)
    return product


def delete_product(
    session: Session, caller: Caller, product_id: int, if_match: frozenset[int] | None
) -> None:
    """Take a product out of the catalogue for good."""
    product = Product.changeable_by(session, caller, product_id)
    product.require_version(if_match)
    product.archive()
