"""Handlers for the stock of products and its ledger."""

from typing import TypedDict

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.catalogue.product import Product
from models.catalogue.stock_entry import StockEntry
from models.storage.base import Versions
from models.storage.page import Page
from models.storage.reader import Reader


class Adjustment(TypedDict):
    """A request body to adjust stock: the units to add or, if negative, remove, and the reason."""

    quantity: int
    reason: str


def list_stock_entries(
    reader: Reader, caller: Caller, product_id: int, cursor: list[int] | None, limit: int
) -> Page[StockEntry]:
    """List the entries of a product's stock ledger."""
    product = Product.visible_to(reader, caller, product_id)
    return StockEntry.page(reader, product.id, after=cursor, limit=limit)


def create_stock_adjustment(
    session: Session, caller: Caller, product_id: int, body: Adjustment, if_match: Versions
) -> StockEntry:
    """Adjust the stock of a product."""
    product = Product.lock_visible(session, caller, product_id)
    product.require_version(if_match)
    return product.adjust(session, body["quantity"], reason=body["reason"], by=caller)


def get_stock_entry(reader: Reader, caller: Caller, product_id: int, entry_id: int) -> StockEntry:
    """Return an entry of a product's stock ledger."""
    product = Product.visible_to(reader, caller, product_id)
    return StockEntry.of(reader, product.id, entry_id)
