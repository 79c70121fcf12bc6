"""What the paths and bodies of the contract's examples name, made for whom it is to belong to."""

import uuid
from typing import NamedTuple

from models.order import Order
from models.user import User
from tests.api.calling import Operation
from tests.models.people import Person
from tests.models.shop import make_order, make_product, read_entries
from tests.service import Service

_STATUS = {"ship_order": "paid", "deliver_order": "shipped", "refund_order": "paid"}
"""The state in which an order has to be for an action, where it is not a new one."""


class Things(NamedTuple):
    """Values for the places in a path, and for members of a body, by their names."""

    places: dict[str, object]
    members: dict[str, object]


def things_for(service: Service, operation: Operation, owner: User) -> Things:
    """Make what an operation's example needs to be done; accounts and orders are the owner's."""
    database = service.app.database
    places: dict[str, object] = {"user_id": owner.id}
    members: dict[str, object] = {"sku": uuid.uuid4().hex}
    if "{product_id}" in operation.path or operation.id == "create_order":
        product = make_product(database, price=1999, currency="USD", stock=1000)
        places |= {"product_id": product.id, "entry_id": read_entries(database, product)[0].id}
        members["lines"] = [{"product_id": product.id, "quantity": 2}]
    if "{order_id}" in operation.path:
        product = make_product(database, price=1999, currency="USD", stock=1000)
        status = _STATUS.get(operation.id, "pending")
        lines = [(product, 2)]
        order = make_order(database, status=status, buyer=Person(owner.id), lines=lines)
        places["order_id"] = order.id
    return Things(places, members)


def state_of_order(service: Service, things: Things) -> tuple[int, str] | None:
    """Read the version and the state of the order among some things, if there is one."""
    if "order_id" not in things.places:
        return None
    order = service.app.database.transact(
        lambda session: session.get_one(Order, things.places["order_id"]), write=False
    )
    return order.version, order.status
