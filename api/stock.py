"""The stock of products, and the ledger of its changes."""

from typing import TypedDict

from sqlalchemy.orm import Session

from api.security import Caller
from models.page import Page
from models.product import Product
from models.stock import StockEntry


class Adjustment(TypedDict):
    """Units that are added to what is on hand, or taken away, and why."""

    quantity: int
    reason: str


def list_stock_entries(
    session: Session, caller: Caller, product_id: int, cursor: list[int] | None, limit: int
) -> Page[StockEntry]:
    """List every change of a product's stock."""
    product = Product.visible_to(session, caller, product_id)
    return StockEntry.page(session, product.id, after=cursor, limit=limit)


def create_stock_adjustment(
    session: Session, caller: Caller, product_id: int, body: Adjustment
) -> StockEntry:
    """Add units to a product's stock, or take some away."""
    product = Product.changeable_by(session, caller, product_id)
    return product.adjust(session, body["quantity"], reason=body["reason"], by=caller)


def get_stock_entry(session: Session, caller: Caller, product_id: int, entry_id: int) -> StockEntry:
    """Read one change of a product's stock."""
    product = Product.visible_to(session, caller, product_id)
    return StockEntry.of(session, product.id, entry_id)
