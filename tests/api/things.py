"""What the paths and bodies of the contract's examples name, made for whom it is to belong to."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from models.one_time_token import OneTimeToken, Purpose
from models.order import Order
from models.user import User
from tests.api.accounts import grant_for, key_for, make_account
from tests.api.authenticators import enrolled
from tests.api.calling import Operation
from tests.api.recovering import link_for
from tests.models.people import Person
from tests.models.shop import make_order, make_product, read_entries
from tests.service import PASSWORD, Service

_STATUS = {"ship_order": "paid", "deliver_order": "shipped", "refund_order": "paid"}
"""The state in which an order has to be for an action, where it is not a new one."""

_PURPOSES: Mapping[str, Purpose] = {
    "confirm_email": "verify_email",
    "confirm_password_reset": "set_password",
}
"""What the links are for that operations take."""


class Things(NamedTuple):
    """Values for the places in a path, and for members of a body, by their names."""

    places: dict[str, object]
    members: dict[str, object]


def things_for(
    service: Service, operation: Operation, owner: User, caller: User | None = None
) -> Things:
    """Make what an operation's example needs to be done; accounts and orders are the owner's.

    A second factor is the caller's own, who is the owner by default.
    """
    database = service.app.database
    places: dict[str, object] = {"user_id": owner.id}
    members: dict[str, object] = {"sku": uuid.uuid4().hex}
    if "{token_id}" in operation.path:
        places["token_id"] = key_for(service, owner, "orders:read")[0].id
    if operation.id == "refresh_token":
        members["refresh_token"] = grant_for(service, make_account(service)).refresh_token
    if operation.id == "complete_sign_in":
        members |= _waiting_sign_in(service)
    if operation.tag == "recovery":
        members |= _recovery(service, operation)
    if operation.tag == "second_factor":
        members |= _second_factor(service, operation, caller or owner)
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


def _waiting_sign_in(service: Service) -> dict[str, object]:
    user = make_account(service)
    lifetime = timedelta(minutes=5)
    issue = partial(OneTimeToken.issue, user=user, purpose="second_factor", lifetime=lifetime)
    challenge = service.app.database.transact(issue, write=True)
    return {"challenge": challenge, "code": enrolled(service, user).code()}


def _recovery(service: Service, operation: Operation) -> dict[str, object]:
    if operation.id not in _PURPOSES:
        return {"current_password": PASSWORD}
    return {"token": link_for(service, make_account(service), _PURPOSES[operation.id])}


def _second_factor(service: Service, operation: Operation, user: User) -> dict[str, object]:
    """Let the caller be where the operation takes them from, with the code for it."""
    proof: dict[str, object] = {"current_password": PASSWORD}
    if operation.body is None or "code" not in operation.body:
        return proof
    confirmed = operation.id != "confirm_second_factor"
    return {**proof, "code": enrolled(service, user, confirmed=confirmed).code()}


def state_of_order(service: Service, things: Things) -> tuple[int, str] | None:
    """Read the version and the state of the order among some things, if there is one."""
    if "order_id" not in things.places:
        return None
    order = service.app.database.transact(
        lambda session: session.get_one(Order, things.places["order_id"]), write=False
    )
    return order.version, order.status
