"""Stories of demo orders: the steps that follow an order's placement, each a real action."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from sqlalchemy.orm import Session

from models.actor import Actor
from models.catalogue.product import Price
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.orders.order_line import LineQuantity
from models.orders.order_placing import OrderDetails

STORIES = (
    "",
    "update",
    "pay_half",
    "pay",
    "pay update",
    "pay refund_half",
    "pay ship_one",
    "pay ship_one refund_half",
    "pay ship",
    "pay_half pay ship",
    "pay ship_one ship deliver",
    "pay ship deliver",
    "pay_half pay ship deliver",
    "update pay ship deliver",
    "pay ship deliver refund_half",
    "pay ship deliver return",
    "pay refund",
    "cancel",
    "pay cancel refund",
    "expire",
    "pay_half expire refund",
)
"""The steps of each story; together, the stories reach every state."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An order in a story, and the actors around it."""

    session: Session
    lifecycle: Lifecycle
    shop: Actor
    customer: Actor
    order: Order
    number: int

    def tell(self, story: Sequence[str]) -> None:
        """Run the steps of a story in turn.

        Raises:
            DomainError: the order or the shop is not in the state that the story expects.
        """
        for step in story:
            _STEPS[step](self)

    @property
    def reference(self) -> str:
        """A reference for the next step, as a bank or carrier would assign it."""
        return f"DEMO-{self.number:04}-{self.order.version}"


def _update(scene: Scene) -> None:
    details = OrderDetails(note="Please leave it with the neighbours.")
    scene.order.update(scene.session, scene.lifecycle, details, by=scene.customer)


def _pay(scene: Scene, part: int = 1) -> None:
    order = scene.order
    amount = (order.due.amount or order.total_amount) // part
    order.pay(
        scene.session,
        scene.lifecycle,
        Price(amount=amount, currency=order.currency),
        method="card" if scene.number % 3 else "transfer",
        reference=scene.reference,
        by=scene.shop,
    )


def _ship(scene: Scene, lines: Sequence[LineQuantity] | None = None) -> None:
    scene.order.ship(
        scene.session,
        scene.lifecycle,
        lines,
        carrier="Demo Parcels",
        tracking_number=scene.reference,
        by=scene.shop,
    )


def _ship_one(scene: Scene) -> None:
    _ship(scene, [LineQuantity(product_id=scene.order.lines[0].product_id, quantity=1)])


def _refund(scene: Scene, part: int = 1, restock: Sequence[LineQuantity] = ()) -> None:
    order = scene.order
    amount = order.balance.held // part
    order.refund(
        scene.session,
        scene.lifecycle,
        Price(amount=amount, currency=order.currency),
        reason="It came back" if restock else "As agreed with the customer",
        restock=restock,
        by=scene.shop,
    )


def _return(scene: Scene) -> None:
    everything = [
        LineQuantity(product_id=line.product_id, quantity=line.left_to_return)
        for line in scene.order.lines
    ]
    _refund(scene, restock=everything)


_STEPS = MappingProxyType[str, Callable[[Scene], None]](
    {
        "update": _update,
        "pay": _pay,
        "pay_half": partial(_pay, part=2),
        "ship": _ship,
        "ship_one": _ship_one,
        "deliver": lambda it: it.order.deliver(it.session, it.lifecycle, by=it.shop),
        "refund": _refund,
        "refund_half": partial(_refund, part=2),
        "return": _return,
        "cancel": lambda it: it.order.cancel(it.session, it.lifecycle, by=it.customer),
        "expire": lambda it: it.order.expire(it.session, it.lifecycle),
    }
)
