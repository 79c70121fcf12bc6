"""Core statements read the same data as the ORM."""

import random
from functools import partial
from typing import get_args

import pytest

from models.access.token_status import TokenStatus, TokenStatuses
from models.identity.permission import SCOPES_OF_ROLE
from models.identity.token import TokenKind
from models.identity.user import Role
from models.identity.user_view import UserView, view_user
from models.orders.order import Order
from models.orders.order_line import OrderLine
from models.orders.order_reading import view_order
from models.orders.order_view import LineView, OrderView
from models.storage.database import Database
from tests.factories import (
    HALF_AN_HOUR,
    ROOT,
    STATUSES,
    Person,
    make_order,
    make_product,
    make_token,
    make_user,
)
from tests.models.reading import read_order, read_orders, read_user

pytestmark = [pytest.mark.mission("M14"), pytest.mark.mission("M16")]

TEXTS = ("", "Zoë", "O'Neill", "名前", "%s :x")


def expected(order: Order) -> dict[str, object]:
    """The fields of an order's view, as the ORM reads them."""

    def line(each: OrderLine) -> LineView:
        return LineView(**{name: getattr(each, name) for name in LineView._fields})

    shown = {name: getattr(order, name) for name in OrderView._fields}
    return {**shown, "lines": [line(each) for each in order.lines]}


def shown(view: OrderView) -> dict[str, object]:
    return view._asdict()


def test_views_of_orders_equal_the_orders(database: Database) -> None:
    chance = random.Random(11)  # noqa: S311 - the same orders each time.
    products = [make_product(database, stock=1000, price=price) for price in (1, 250, 99_999)]
    buyers = [Person(make_user(database).id) for _ in range(2)]
    orders = []
    for status in STATUSES:
        ordered = chance.sample(products, chance.randint(1, 3))
        orders.append(
            make_order(
                database,
                status=status,
                buyer=chance.choice(buyers),
                lines=[(product, chance.randint(2, 9)) for product in ordered],
                paid=chance.randrange(2),
                note=chance.choice((None, *TEXTS)),
                shipping_address=chance.choice((None, {"city": chance.choice(TEXTS)})),
                metadata={text: text for text in chance.sample(TEXTS, 2)},
            )
        )

    stored = [expected(read_order(database, order)) for order in orders]

    for order, fields_of_order in zip(orders, stored, strict=True):
        view = database.read(partial(view_order, actor=ROOT, order_id=order.id))
        assert shown(view) == fields_of_order
    listed = read_orders(database, by=ROOT, sort="created_at").items
    assert [shown(view) for view in listed] == stored


@pytest.mark.parametrize("price", [0, 7])
def test_a_placed_order_equals_the_stored_one(database: Database, price: int) -> None:
    chance = random.Random(price)  # noqa: S311 - as above.
    products = [make_product(database, price=price) for _ in range(3)]
    placed = database.transact(
        partial(
            Order.place,
            by=Person(make_user(database).id),
            lines=[{"product_id": each.id, "quantity": chance.randint(1, 9)} for each in products],
            details={"note": chance.choice(TEXTS), "metadata": {"": chance.choice(TEXTS)}},
            reservation=HALF_AN_HOUR,
        ),
        write=True,
    )
    stored = database.transact(partial(Order.lock_visible, actor=ROOT, order_id=placed.id))
    assert shown(placed) == expected(stored)


def test_views_of_accounts_and_tokens_equal_the_rows(database: Database) -> None:
    chance = random.Random(12)  # noqa: S311 - as above.
    statuses = TokenStatuses(strict_administrators=False)
    for role in (*get_args(Role), *get_args(Role)):
        scopes = chance.sample(SCOPES_OF_ROLE[role], 2)
        made = make_user(
            database,
            name=chance.choice(TEXTS[1:]),
            role=role,
            verified=chance.random() < 0.5,
        )
        user = read_user(database, made.id)
        view = database.read(partial(view_user, actor=ROOT, user_id=user.id), single=True)
        assert view == UserView(**{name: getattr(user, name) for name in UserView._fields})
        for kind in get_args(TokenKind):
            token = make_token(database, user, kind=kind, scopes=scopes)
            begun = token.created_at if kind == "session" else None
            read = partial(statuses.read, credential=token.id)
            assert database.read(read, single=True) == TokenStatus(
                token.id, user.id, user.role, user.token_version, token.scopes, begun
            )
