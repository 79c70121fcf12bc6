"""All there is to try Concord with: people, products, and what the people ordered."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.database import Database
from models.demo import DemoActor, seed_demo_users
from models.demo_orders import DEMO_ORDERS, seed_demo_orders
from models.demo_products import DEMO_PRODUCTS, seed_demo_products
from models.lifecycle import Lifecycle
from models.password import Passwords
from models.user import User


class Added(NamedTuple):
    """How many of each were not there before."""

    accounts: int
    products: int
    orders: int


def seed_demo(
    database: Database,
    passwords: Passwords,
    lifecycle: Lifecycle,
    *,
    count: int = 300,
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Store the first `count` demo accounts, the demo products and their orders.

    `progress` is called with how many of all these are done and how many are to be done.

    Raises:
        DatabaseUnavailable: what was stored so far stays.
    """
    total = count + DEMO_PRODUCTS + DEMO_ORDERS

    def advance(before: int, done: int, _part: int) -> None:
        if progress is not None:
            progress(before + done, total)

    accounts = seed_demo_users(database, passwords, count=count, progress=partial(advance, 0))
    shop = database.transact(_shop, write=True)
    products = seed_demo_products(database, shop, progress=partial(advance, count))
    before = count + DEMO_PRODUCTS
    progress_of_orders = partial(advance, before)
    orders = seed_demo_orders(database, lifecycle, shop, people=count, progress=progress_of_orders)
    return Added(accounts, products, orders)


def _shop(session: Session) -> DemoActor:
    """Give the account that the demo's stock, payments and shipments are booked under.

    They were no administrator's doing, and everybody knows the passwords of the demo people. It is
    an account without rights, which nobody can sign in with.
    """
    draft = User.draft(name="Demo shop", email="demo.shop@example.com", password_hash=None)
    shop = session.scalar(select(User).where(User.email_key == draft.email_key))
    if shop is None:
        shop = draft
        shop.active = False
        session.add(shop)
        session.flush()
    return DemoActor(shop.id, is_admin=True)
