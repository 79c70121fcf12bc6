"""The lines of an order, with the product's name and price at the time of ordering."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypedDict
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.errors import InvalidLines, QuantityExceeded, UnknownProduct
from models.money import Money
from models.storage.base import Base


class LineQuantity(TypedDict):
    """A requested number of units of a product."""

    product_id: int
    quantity: int


class OrderLine(Base):
    """Units of one product in an order. A product appears on at most one line of an order."""

    __tablename__ = "order_lines"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    sku: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    unit_amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    quantity: Mapped[int] = mapped_column(Integer)
    shipped: Mapped[int] = mapped_column(Integer, default=0)
    returned: Mapped[int] = mapped_column(Integer, default=0)

    __table_args__ = (
        CheckConstraint("shipped >= 0 AND shipped <= quantity", name="shipped"),
        CheckConstraint("returned >= 0 AND returned <= shipped", name="returned"),
        UniqueConstraint("order_id", "product_id"),
    )

    @property
    def unit_price(self) -> Money:
        """The price of one unit in this order."""
        return Money(self.unit_amount, self.currency)

    @property
    def total(self) -> Money:
        """The price of all units."""
        return Money(self.unit_amount * self.quantity, self.currency)

    @property
    def left_to_ship(self) -> int:
        """The number of units that have not been shipped."""
        return self.quantity - self.shipped

    @property
    def left_to_return(self) -> int:
        """The number of units that have been shipped and not returned."""
        return self.shipped - self.returned


def require_products(
    asked: Sequence[LineQuantity], known: Collection[int], *, member: str = "lines"
) -> None:
    """Check that each product is known and appears on only one line.

    Raises:
        InvalidLines: A product appears on more than one line.
        UnknownProduct: A product is not in `known`.
    """
    if repeated := dict.fromkeys(_repeated(asked, member), "already appears on another line"):
        raise InvalidLines(violations=repeated)
    unknown = {
        f"/{member}/{index}/product_id": "is not a product that is available here"
        for index, line in enumerate(asked)
        if line["product_id"] not in known
    }
    if unknown:
        raise UnknownProduct(violations=unknown)


def require_quantities(
    asked: Sequence[LineQuantity], left: Mapping[int, int], *, member: str = "lines"
) -> None:
    """Check that no quantity exceeds the units left of its product.

    Raises:
        InvalidLines, UnknownProduct: As in `require_products`.
        QuantityExceeded: A quantity exceeds the units left in the order.
    """
    require_products(asked, left, member=member)
    exceeded = {
        f"/{member}/{index}/quantity": f"must be at most {left[line['product_id']]}"
        for index, line in enumerate(asked)
        if line["quantity"] > left[line["product_id"]]
    }
    if exceeded:
        raise QuantityExceeded(violations=exceeded)


def chosen_units(
    asked: Sequence[LineQuantity] | None, left: Mapping[int, int]
) -> Sequence[LineQuantity]:
    """Return the requested units, or all units that are left if `asked` is `None`.

    Raises:
        InvalidLines, UnknownProduct, QuantityExceeded: As in `require_quantities`.
    """
    if asked is None:
        return [LineQuantity(product_id=each, quantity=left[each]) for each in left if left[each]]
    require_quantities(asked, left)
    return asked


def _repeated(asked: Sequence[LineQuantity], member: str) -> Iterator[str]:
    """Yield pointers to products that appear on an earlier line."""
    seen: set[int] = set()
    for index, line in enumerate(asked):
        if line["product_id"] in seen:
            yield f"/{member}/{index}/product_id"
        seen.add(line["product_id"])
