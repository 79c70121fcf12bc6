"""The lines of an order: what was ordered, at the price and under the name of that moment."""

from collections.abc import Collection, Iterator, Sequence
from typing import TypedDict
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.errors import Fault, InvalidLines, QuantityExceeded, UnknownProduct
from models.money import Money


class LineQuantity(TypedDict):
    """Some units of a product, as they are asked for."""

    product_id: int
    quantity: int


class OrderLine(Base):
    """Units of one product in an order. A product has one line in an order at the most."""

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
        """What one unit costs in this order."""
        return Money(self.unit_amount, self.currency)

    @property
    def total(self) -> Money:
        """What all units cost."""
        return Money(self.unit_amount * self.quantity, self.currency)

    @property
    def left_to_ship(self) -> int:
        """Units that have not been handed over."""
        return self.quantity - self.shipped

    @property
    def left_to_return(self) -> int:
        """Units that were handed over and have not come back."""
        return self.shipped - self.returned


def require_products(
    asked: Sequence[LineQuantity], known: Collection[int], *, member: str = "lines"
) -> None:
    """Insist that each product is known and stands in one of the lines that are asked for.

    Raises:
        InvalidLines: a product is named twice.
        UnknownProduct: a product is not among the known.
    """
    if repeated := list(_repeated(asked, member)):
        raise InvalidLines(faults=repeated)
    unknown = [
        Fault(f"/{member}/{index}/product_id", "is not a product that can be chosen here")
        for index, line in enumerate(asked)
        if line["product_id"] not in known
    ]
    if unknown:
        raise UnknownProduct(faults=unknown)


def require_quantities(
    asked: Sequence[LineQuantity], left: dict[int, int], *, member: str = "lines"
) -> None:
    """Insist that no more is asked for than is left of each product.

    Raises:
        InvalidLines, UnknownProduct: as in `require_products`.
        QuantityExceeded: there are fewer units left in the order.
    """
    require_products(asked, left, member=member)
    exceeded = [
        Fault(f"/{member}/{index}/quantity", f"must be at most {left[line['product_id']]}")
        for index, line in enumerate(asked)
        if line["quantity"] > left[line["product_id"]]
    ]
    if exceeded:
        raise QuantityExceeded(faults=exceeded)


def _repeated(asked: Sequence[LineQuantity], member: str) -> Iterator[Fault]:
    seen: set[int] = set()
    for index, line in enumerate(asked):
        if line["product_id"] in seen:
            yield Fault(f"/{member}/{index}/product_id", "stands in another line already")
        seen.add(line["product_id"])
