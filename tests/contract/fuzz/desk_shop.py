"""Products for the fuzzer to order, and orders for it to continue with."""

import io

from models.catalogue.product import Product
from models.files.picture_decoding import draw
from models.files.store import FileStore
from models.files.stored_picture import Pictures
from models.orders.order import Order
from models.storage.database import Database
from tests.contract.fuzz.shelf import SHELF, SOLD
from tests.factories import Person, make_order, make_product
from tests.models.reading import read_product
from tests.pictures import make_picture

PICTURE = make_picture(size=(8, 8))
"""A picture that is stored."""

FILE = draw(io.BytesIO(PICTURE))[0].small.path
"""The path of the file that it becomes."""

_PRICES = (1, 2, 0, 1)
"""So little that a payment is often all that is due. What costs nothing is paid from the start."""
_PLENTY = 500_000_000


class DeskShop:
    """A shelf full of products, a picture, and an order in whatever state is needed."""

    def __init__(self, database: Database, storage_url: str) -> None:
        self._database = database
        Pictures(database, FileStore(storage_url)).receive(io.BytesIO(PICTURE))
        shelf = [self._product(_PRICES[number % len(_PRICES)]) for number in range(SHELF)]
        self._sold = shelf[SOLD - 1]

    def order(self, buyer: Person, status: str) -> Order:
        """Store an order of two units, and bring it into a state."""
        self._sold = read_product(self._database, self._sold)
        if not self._sold.can_be_ordered or not self._sold.price_amount:
            # The fuzzer has been at it.
            self._sold = self._product(1)
        lines = [(self._sold, 2)]
        return make_order(self._database, status=status, buyer=buyer, lines=lines)

    def _product(self, price: int) -> Product:
        return make_product(self._database, price=price, currency="USD", stock=_PLENTY)
