"""Handlers for the catalogue, for customers and administrators."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.catalogue.product import Product, ProductChanges
from models.catalogue.product_list import ProductFilter, ProductSort, find_products
from models.files.picture import NewPicture
from models.money import CurrencyInfo, currencies
from models.storage.base import Versions
from models.storage.page import Page
from models.storage.reader import Reader


def list_currencies() -> dict[str, Iterable[CurrencyInfo]]:
    """List the currencies in which prices can be given."""
    return {"items": list(currencies().values())}


def list_products(
    reader: Reader,
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
    """List products on sale; administrators can also list inactive ones."""
    wanted = ProductFilter(active, q, currency, price_min, price_max, in_stock)
    return find_products(reader, wanted, by=caller, sort=sort, after=cursor, limit=limit)


def create_product(session: Session, body: ProductChanges) -> Product:
    """Create a product."""
    return Product.create(session, body)


def get_product(reader: Reader, caller: Caller | None, product_id: int) -> Product:
    """Return a product that the caller may see."""
    return Product.visible_to(reader, caller, product_id)


def update_product(
    session: Session,
    caller: Caller,
    product_id: int,
    body: ProductChanges,
    if_match: Versions,
) -> Product:
    """Update the given properties of a product."""
    product = Product.lock_visible(session, caller, product_id)
    product.require_version(if_match)
    product.change(session, body)
    return product


def delete_product(session: Session, caller: Caller, product_id: int, if_match: Versions) -> None:
    """Archive a product, which removes it from the catalogue for good."""
    product = Product.lock_visible(session, caller, product_id)
    product.require_version(if_match)
    product.archive(session)


def set_product_image(
    session: Session,
    caller: Caller,
    product_id: int,
    position: int,
    body: NewPicture,
    if_match: Versions,
) -> Product:
    """Set the image of a product at a position."""
    product = Product.lock_visible(session, caller, product_id)
    product.require_version(if_match)
    product.set_image(session, position, body["image"])
    return product


def delete_product_image(
    session: Session, caller: Caller, product_id: int, position: int, if_match: Versions
) -> None:
    """Remove the image of a product at a position."""
    product = Product.lock_visible(session, caller, product_id)
    product.require_version(if_match)
    product.set_image(session, position, None)
