"""The demo data as a whole: people, products and orders."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.demo.demo_accounts import DemoActor, seed_demo_users
from models.demo.demo_catalogue import DEMO_PRODUCTS, seed_demo_products
from models.demo.demo_orders import DEMO_ORDERS, seed_demo_orders
from models.identity.password import Passwords
from models.identity.user import User
from models.lifecycle import Lifecycle
from models.storage.database import Database


class Added(NamedTuple):
    """Numbers of rows created."""

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
    """Create the first `count` demo accounts, the demo products and their orders.

    `progress` is called with the number of all these done and the total.

    Raises:
        DatabaseUnavailable: the database cannot be reached; rows created so far are kept.
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
    """Return the account that stock, payments and shipments of the demo are recorded under.

    It is an account of its own, because no administrator made these changes and the passwords of
    demo people are public. The account has no rights, and nobody can sign in to it.
    """
    draft = User.draft(name="Demo shop", email="demo.shop@example.com", password_hash=None)
    shop = session.scalar(select(User).where(User.email_key == draft.email_key))
    if shop is None:
        shop = draft
        shop.active = False
        session.add(shop)
        session.flush()
    return DemoActor(shop.id, is_admin=True)
