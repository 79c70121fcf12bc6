"""After any sequence of actions, the sums of a shop are correct."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import ClassVar, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from models import errors
from models.catalogue.product import Price, Product
from models.orders.order import Order
from models.storage.database import Database
from tests.databases import make_database_url
from tests.factories import HALF_AN_HOUR, LIFECYCLE, STATUSES, make_admin, make_buyer, make_product
from tests.models.actions import (
    adjust_stock,
    archive_product,
    bounce,
    cancel,
    change_product,
    deliver,
    erase_customer,
    expire,
    expire_overdue,
    pay,
    place,
    reduce,
    refund,
    ship,
    take_back,
    update,
)
from tests.models.books import check_books, everything
from tests.models.reading import read_order

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M28")]

REFUSALS: dict[str, set[type[errors.DomainError]]] = {
    "adjust": {errors.InvalidQuantity, errors.StockOutOfRange, errors.NotFound},
    "reprice": {errors.NotFound},
    "archive": {errors.NotFound},
    "place": {
        *(errors.UnknownProduct, errors.InvalidLines),
        *(errors.MixedCurrencies, errors.OutOfStock),
    },
    "update": {errors.IllegalTransition, errors.OwnerErased},
    "pay": {errors.InvalidAmount, errors.PaymentRecorded},
    "erase": {errors.OrdersOpen},
    "bounce": {
        *(errors.IllegalTransition, errors.InvalidAmount),
        *(errors.UnknownPayment, errors.BounceExceedsPayment),
    },
    "cancel": {errors.IllegalTransition},
    "expire": {errors.IllegalTransition},
    "ship": {errors.IllegalTransition, errors.InvalidLines, errors.QuantityExceeded},
    "reduce": {
        *(errors.IllegalTransition, errors.OrderEmpty),
        *(errors.InvalidLines, errors.QuantityExceeded),
    },
    "deliver": {errors.IllegalTransition},
    "return": {errors.IllegalTransition, errors.InvalidLines, errors.QuantityExceeded},
    "refund": {
        *(errors.IllegalTransition, errors.InvalidAmount, errors.RefundExceedsPaid),
        *(errors.InvalidLines, errors.QuantityExceeded),
    },
}
"""The errors that each thing can be refused with."""

ACTIONS = REFUSALS.keys() - {"adjust", "reprice", "archive", "place", "erase"}
"""What is done to orders."""

PICKS = st.sampled_from([0, 1, 0, 1, 2, 3, 4, 5])
NUMBERS = st.sampled_from([0, 1, 700, 5, -5, -1, 20, -30])
PARTS = st.lists(st.tuples(PICKS, st.integers(1, 4)), max_size=2)


class Details(NamedTuple):
    """What an action is done with, where it is done with anything; none is all that is left."""

    amount: int | None
    parts: list[tuple[int, int]]
    reference: str


DETAILS = st.builds(
    Details, st.sampled_from([1, None, 1, 700, 9000, 0]), PARTS, st.sampled_from("ab")
)


CHANCE = st.randoms(use_true_random=True)
"""Equal chances for each choice, where hypothesis alone would repeat a few of them."""


def _details(chance: Random) -> Details:
    parts = chance.choice([[], [(0, 1)], [(1, 1)], [(0, 1), (1, 2)]])
    return Details(chance.choice([None, 1, 700]), parts, chance.choice("abcdef"))


def _done_or_refused(work: Callable[[], object]) -> object:
    try:
        return work()
    except errors.DomainError as error:
        return error


class Shop(RuleBasedStateMachine):
    """A shop in which one thing after the other is done, some of which must be refused."""

    reached: ClassVar[Counter[str]] = Counter()
    """How often an order came into each state and each action was done, and each refusal came."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        folder = Path(self._open.enter_context(TemporaryDirectory()))
        url = self._open.enter_context(make_database_url("sqlite", folder))
        self.database = Database(url)
        self._open.callback(self.database.dispose)
        self.products: list[Product] = []
        self.orders: list[Order] = []

    def teardown(self) -> None:
        self._open.close()

    def attempt(self, action: str, work: Callable[[], object]) -> None:
        """Do something that may be refused, in which case nothing must have changed."""
        before = everything(self.database)
        done = _done_or_refused(work)
        if isinstance(done, errors.DomainError):
            assert type(done) in REFUSALS[action]
            assert everything(self.database) == before
        self.reached[done.status if isinstance(done, Order) else type(done).__name__] += 1
        if isinstance(done, Order):
            self.reached[action] += 1
            self.orders = [*(each for each in self.orders if each.id != done.id), done]

    def product(self, pick: int) -> Product:
        return self.products[pick % len(self.products)]

    def order(self, pick: int) -> Order:
        """Pick one of the orders that something was done to lately, as it is now."""
        return read_order(self.database, self.orders[-1 - pick % min(3, len(self.orders))])

    def act(self, action: str, order: Order, details: Details) -> None:
        """Do something to an order that its state may allow or not."""
        database, amount = self.database, details.amount
        lines = [
            (Product(id=order.lines[pick % len(order.lines)].product_id), quantity)
            for pick, quantity in details.parts
        ]
        works: dict[str, Callable[[], Order]] = {
            "update": lambda: update(database, order, note="Ring twice."),
            "pay": lambda: pay(database, order, amount, reference=details.reference),
            "bounce": lambda: bounce(database, order, amount),
            "cancel": lambda: cancel(database, order),
            "expire": lambda: expire(database, order),
            "ship": lambda: ship(database, order, lines or None),
            "deliver": lambda: deliver(database, order),
            "reduce": lambda: reduce(database, order, lines or None),
            "return": lambda: take_back(database, order, lines or None, restock=amount is None),
            "refund": lambda: refund(database, order, amount, restock=lines),
        }
        self.attempt(action, works[action])

    @initialize()
    def open(self) -> None:
        make_admin(self.database)
        self.buyer = make_buyer(self.database)
        self.products += [
            *(make_product(self.database, stock=8, price=700) for _ in range(2)),
            make_product(self.database, stock=20, currency="JPY"),
            make_product(self.database, stock=20, active=False),
        ]

    @rule(task=st.sampled_from(["add", "adjust", "reprice", "archive"]), pick=PICKS, number=NUMBERS)
    def look_after_products(self, task: str, pick: int, number: int) -> None:
        database, product = self.database, self.product(pick)
        price = Price(amount=abs(number), currency="JPY" if number == 1 else "EUR")
        tasks: dict[str, Callable[[], object]] = {
            "adjust": lambda: adjust_stock(database, product, number),
            "reprice": lambda: change_product(database, product, price=price),
            "archive": lambda: archive_product(database, product),
        }
        if task == "add":
            self.products.append(
                make_product(
                    database, stock=abs(number), price=price["amount"], currency=price["currency"]
                )
            )
        elif task != "archive" or product not in self.products[:2]:
            self.attempt(task, tasks[task])

    @rule(lines=PARTS, repeated=st.integers(0, 9), soon=st.booleans())
    def place(self, lines: list[tuple[int, int]], repeated: int, *, soon: bool) -> None:
        asked = {self.product(pick).id: (self.product(pick), number) for pick, number in lines}
        chosen = list(asked.values()) or [(self.products[0], 3)]
        chosen += chosen if repeated == 9 else []
        reservation = timedelta(seconds=-1) if soon else HALF_AN_HOUR
        self.attempt(
            "place", lambda: place(self.database, self.buyer, chosen, reservation=reservation)
        )

    @rule(by_admin=st.booleans())
    @precondition(lambda self: self.orders)
    def erase_the_buyer(self, *, by_admin: bool) -> None:
        database, buyer = self.database, self.buyer
        by = make_admin(database) if by_admin else buyer
        self.attempt("erase", lambda: erase_customer(database, buyer, by=by))
        self.buyer = make_buyer(database)

    @rule()
    def expire_what_is_overdue(self) -> None:
        self.reached["expired"] += expire_overdue(self.database)
        assert expire_overdue(self.database) == 0

    @rule(chance=CHANCE, times=st.integers(1, 5))
    @precondition(lambda self: self.orders)
    def do_what_is_possible(self, chance: Random, times: int) -> None:
        for _ in range(times):
            self.do_something_possible(self.order(chance.randrange(3)), chance)

    def do_something_possible(self, order: Order, chance: Random) -> None:
        possible = [each for each in LIFECYCLE.allowed(order.status) if each not in order.ruled_out]
        self.act(chance.choice(possible), order, _details(chance))

    @rule(pick=PICKS, action=st.sampled_from(sorted(ACTIONS)), details=DETAILS)
    @precondition(lambda self: self.orders)
    def do_anything(self, pick: int, action: str, details: Details) -> None:
        self.act(action, self.order(pick), details)

    @rule(pick=PICKS, chance=CHANCE)
    @precondition(lambda self: self.orders)
    def see_it_through(self, pick: int, chance: Random) -> None:
        """Do all that ends an order, with other things in between."""
        order = self.order(pick)
        for action in ("pay", "ship", "deliver", "refund", "return"):
            self.do_something_possible(self.order(pick), chance)
            self.act(action, order, Details(None, [], chance.choice("abcdef")))

    @invariant()
    def the_books_are_right(self) -> None:
        check_books(self.database)


# Only a failure takes long: it is made as short as possible before it is shown.
@pytest.mark.timeout(600)
def test_the_books_balance_after_any_actions() -> None:
    Shop.reached.clear()

    run_state_machine_as_test(
        Shop,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            # The same steps in every run.
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )

    # All this shows something only if the steps led everywhere.
    assert {*STATUSES, *ACTIONS} <= Shop.reached.keys()
