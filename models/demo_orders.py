"""Orders of the demo people in every state, brought there by the actions that lead to it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.actor import Actor
from models.database import Database
from models.demo import DemoActor, demo_people
from models.demo_products import demo_assortments, demo_product_ids
from models.demo_stories import STORIES, Scene
from models.errors import DomainError
from models.lifecycle import Lifecycle
from models.order import Order, OrderDetails
from models.order_line import LineQuantity
from models.order_placing import place_order
from models.user import User

DEMO_ORDERS: Final = 200
"""How many demo orders there are."""

_BATCH = 20
_CUSTOMERS = 97
_NUMBER = "demo_order"
"""The name under which an order's metadata keep its number, by which it is known the next time."""
_RESERVATION = timedelta(days=30)
"""So long the unpaid ones stay to be looked at."""

_ADDRESSES = (
    {"line1": "4 rue des Lilas", "city": "Lyon", "postal_code": "69003", "country": "FR"},
    {"line1": "12 Harbour Row", "line2": "Flat 3", "city": "Whitby", "country": "GB"},
    {"line1": "1180 Elm Street", "city": "Omaha", "region": "NE", "country": "US"},
    {"line1": "北山通 2-7", "city": "京都市", "postal_code": "603-0000", "country": "JP"},
    {"line1": "Block 6, Street 14", "city": "Kuwait", "country": "KW"},
)
_NOTES = ("Please ring twice.", "It is a present:\nno invoice in the parcel.", "Thank you!")


def seed_demo_orders(
    database: Database,
    lifecycle: Lifecycle,
    by: Actor,
    *,
    people: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Store the demo orders of the first `people`, less those that are there; say how many.

    What customers do is done by them, and the rest by `by`, or where an order expires by nobody.
    An order whose products are sold out or changed by now is left out.

    `progress` is called with how many are done and how many are to be done.

    Raises:
        DatabaseUnavailable: what was stored so far stays.
    """
    find = partial(demo_people, numbers=range(min(people, _CUSTOMERS)))
    customers = database.transact(find, write=False)
    added = 0
    for first in range(0, DEMO_ORDERS, _BATCH):
        numbers = range(first, min(first + _BATCH, DEMO_ORDERS))
        added += database.transact(partial(_seed, numbers, lifecycle, customers, by), write=True)
        if progress is not None:
            progress(numbers.stop, DEMO_ORDERS)
    return added


def _seed(
    numbers: range,
    lifecycle: Lifecycle,
    customers: Sequence[User],
    shop: Actor,
    session: Session,
) -> int:
    label = Order.labels[_NUMBER].as_string()
    theirs = Order.user_id.in_([user.id for user in customers])
    there = set(session.scalars(select(label).where(theirs, label.is_not(None))))
    product_ids = demo_product_ids(session)
    added = 0
    for number in numbers:
        if str(number) not in there:
            # By squares some order often, and some never.
            user = customers[number * number % len(customers)]
            lines = _lines(number, product_ids)
            added += _tell(session, lifecycle, shop, user, lines, number)
    return added


def _tell(
    session: Session,
    lifecycle: Lifecycle,
    shop: Actor,
    user: User,
    lines: Sequence[LineQuantity],
    number: int,
) -> bool:
    """Place an order and let happen what its story says, or nothing if the shop cannot do it."""
    story = STORIES[number % len(STORIES)].split()
    customer = DemoActor(user.id, is_admin=False)
    try:
        with session.begin_nested():
            placed = place_order(
                session,
                by=customer,
                lines=lines,
                details=_details(user, number),
                # What expires has no time, so that it is true that its time is over.
                reservation=timedelta(0) if "expire" in story else _RESERVATION,
            )
            order = Order.changeable_by(session, customer, placed.id)
            Scene(session, lifecycle, shop, customer, order, number).tell(story)
    except DomainError:
        return False
    return True


def _lines(number: int, product_ids: Mapping[int, int]) -> list[LineQuantity]:
    assortments = demo_assortments()
    turn, place = divmod(number, len(assortments))
    offered = assortments[place]
    return [
        LineQuantity(
            # A product that is gone has an id that none has.
            product_id=product_ids.get(offered[(turn + 3 * line) % len(offered)], 0),
            # The first line is of two at least, so that one of them can be shipped alone.
            quantity=(1 if line else 2) + (turn + line) % 3,
        )
        for line in range(1 + number // len(STORIES) % 3)
    ]


def _details(user: User, number: int) -> OrderDetails:
    details = OrderDetails(metadata={_NUMBER: str(number)})
    if number % 4:
        details["shipping_address"] = {"name": user.name, **_ADDRESSES[number % len(_ADDRESSES)]}
    if number % 5 == 0:
        details["note"] = _NOTES[number % len(_NOTES)]
    return details
