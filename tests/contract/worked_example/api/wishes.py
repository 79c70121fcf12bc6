"""Wishlists, as their owners see them."""

from typing import TypedDict

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.catalogue.product import Product
from models.catalogue.wish import Wish
from models.storage.page import Page
from models.storage.reader import Reader


class NewWish(TypedDict):
    """A request body to add a wish."""

    product_id: int


def list_wishes(
    reader: Reader, caller: Caller, cursor: list[int] | None, limit: int
) -> Page[Product]:
    """List the products on the caller's wishlist."""
    return Wish.page(reader, caller, after=cursor, limit=limit)


def add_wish(session: Session, caller: Caller, body: NewWish) -> None:
    """Add a product to the caller's wishlist."""
    Wish.add(session, caller, **body)
