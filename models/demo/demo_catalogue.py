"""Demo products: several dozen fictional goods, the same every time."""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.actor import Actor
from models.catalogue.product import Price, Product, ProductChanges
from models.storage.database import Database

_BATCH = 20
# The period and offset at which products are inactive or sold out; no product is both.
_HIDDEN = (13, 4)
_SOLD_OUT = (11, 7)


class _Goods(NamedTuple):
    """An item that every collection has, with its price in euro cents."""

    code: str
    name: str
    cents: int
    description: str


class _Collection(NamedTuple):
    """A range of goods from one place, priced in one currency.

    `per_euro` is the number of minor units in a euro. Prices are multiples of `step`, less `off`.
    """

    code: str
    name: str
    place: str
    currency: str
    per_euro: int
    step: int
    off: int


_GOODS = (
    _Goods("LAMP", "desk lamp", 8900, "A lamp that bends where you want it.\n\nBulb included."),
    _Goods("KETTLE", "kettle", 4900, "Boils a litre of water and says so."),
    _Goods("BLANKET", "wool blanket", 7900, "Warm, and large enough for two."),
    _Goods("TEAPOT", "teapot", 3900, "Pours without a drop beside the cup."),
    _Goods("NOTEBOOK", "notebook", 1250, "192 pages that lie flat.\n\nDotted, ruled or blank."),
    _Goods("BACKPACK", "backpack", 9500, "Twenty litres, and dry in the rain."),
    _Goods("BICYCLE", "bicycle", 64900, "Seven gears, two lights and a bell."),
    _Goods("CHAIR", "reading chair", 34900, "For the length of a novel."),
    _Goods("SCARF", "scarf", 2900, "Long enough for winter."),
    _Goods("CLOCK", "wall clock", 5400, "Does not tick."),
    _Goods("RADIO", "radio", 11900, "Two knobs and a good loudspeaker."),
    _Goods("BOOKMARK", "bookmark", 350, "Keeps the page."),
)
_COLLECTIONS = (
    _Collection("ELAN", "Élan", "Lyon", "EUR", per_euro=100, step=100, off=10),
    _Collection("PRAIRIE", "Prairie", "Omaha", "USD", per_euro=110, step=100, off=1),
    _Collection("HARBOUR", "Harbour", "Whitby", "GBP", per_euro=85, step=50, off=1),
    # The yen has no minor unit, and a dinar has a thousand fils.
    _Collection("KITAYAMA", "北山", "Kyoto", "JPY", per_euro=160, step=10, off=0),
    _Collection("DHOW", "Dhow", "Kuwait", "KWD", per_euro=335, step=50, off=0),
)

DEMO_PRODUCTS: Final = len(_GOODS) * len(_COLLECTIONS)
"""Number of demo products."""


def seed_demo_products(
    database: Database, by: Actor, *, progress: Callable[[int, int], None] | None = None
) -> int:
    """Create the demo products that do not exist yet, and return how many were created.

    `progress` is called with the number of products done and the total.

    Raises:
        DatabaseUnavailable: the database cannot be reached; products created so far are kept.
    """
    added = 0
    for first in range(0, DEMO_PRODUCTS, _BATCH):
        numbers = range(first, min(first + _BATCH, DEMO_PRODUCTS))
        added += database.transact(partial(_seed, numbers, by), write=True)
        if progress is not None:
            progress(numbers.stop, DEMO_PRODUCTS)
    return added


def demo_product_ids(session: Session) -> dict[int, int]:
    """Return the ids of existing demo products, by their number."""
    numbers = {_sku(number).lower(): number for number in range(DEMO_PRODUCTS)}
    sku = func.lower(Product.sku)
    query = select(sku, Product.id).where(Product.exists(), sku.in_(numbers))
    return {numbers[key]: product_id for key, product_id in session.execute(query)}


def demo_assortments() -> list[list[int]]:
    """Return groups of products that can be ordered together, because they share a currency."""
    return [
        [
            number
            for number in range(place, DEMO_PRODUCTS, len(_COLLECTIONS))
            if _active(number) and _units(number)
        ]
        for place in range(len(_COLLECTIONS))
    ]


def _seed(numbers: range, by: Actor, session: Session) -> int:
    there = demo_product_ids(session)
    missing = [number for number in numbers if number not in there]
    for number in missing:
        product = Product.create(session, _draft(number))
        if units := _units(number):
            product.adjust(session, units, reason="First delivery", by=by)
        if units and number % 6 == 1:
            product.adjust(session, -1 - number % 3, reason="Broken in the warehouse", by=by)
    return len(missing)


def _draft(number: int) -> ProductChanges:
    turn, place = divmod(number, len(_COLLECTIONS))
    goods, collection = _GOODS[turn], _COLLECTIONS[place]
    step = collection.step
    exact = goods.cents * collection.per_euro // 100
    amount = (exact + step // 2) // step * step - collection.off
    made_in = {"collection": collection.name, "made_in": collection.place}
    return ProductChanges(
        sku=_sku(number),
        name=f"{collection.name} {goods.name}",
        description=goods.description if number % 8 else "",
        price=Price(amount=amount, currency=collection.currency),
        active=_active(number),
        metadata=made_in if number % 4 else {},
    )


def _sku(number: int) -> str:
    turn, place = divmod(number, len(_COLLECTIONS))
    return f"DEMO-{_COLLECTIONS[place].code}-{_GOODS[turn].code}"


def _active(number: int) -> bool:
    every, one = _HIDDEN
    return number % every != one


def _units(number: int) -> int:
    """Return the units delivered, more than the demo orders need; some products have none."""
    every, one = _SOLD_OUT
    return 0 if number % every == one else 100 + number * 37 % 240
