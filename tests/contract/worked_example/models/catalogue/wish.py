"""Wishlists: products that a customer wants to remember."""

from collections.abc import Sequence

from sqlalchemy import ForeignKey, exists, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.catalogue.product import Product
from models.errors import UnknownProduct
from models.identity.user import User
from models.storage.base import ERASED, Base
from models.storage.page import Listing, Page
from models.storage.reader import Reader


class Wish(Base):
    """A product on the wishlist of an account."""

    __tablename__ = "wishes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, info=ERASED)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)

    @classmethod
    def page(
        cls, reader: Reader, actor: Actor, *, after: Sequence[object] | None, limit: int
    ) -> Page[Product]:
        """Read the products on the actor's wishlist, by id."""
        query = select(Product).join(cls, cls.product_id == Product.id)
        query = query.where(Product.seen_by(actor), cls.user_id == actor.user_id)
        return Listing(query, [Product.id]).page(reader, after=after, limit=limit)

    @classmethod
    def add(cls, session: Session, actor: Actor, product_id: int) -> None:
        """Add a product to the actor's wishlist, unless it is there already.

        Raises:
            UnknownProduct: The actor sees no such product.
        """
        if not session.scalar(
            select(exists().where(Product.seen_by(actor), Product.id == product_id))
        ):
            raise UnknownProduct
        # The lock makes simultaneous requests wait for each other, so only one inserts the row.
        session.execute(select(User.id).where(User.id == actor.user_id).with_for_update())
        session.merge(cls(user_id=actor.user_id, product_id=product_id))
