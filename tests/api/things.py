"""The resources that paths and bodies in the contract's examples name, with a given owner."""

import io
import re
import uuid
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from models.catalogue.product import Product
from models.files.store import FileStore
from models.files.stored_picture import Pictures
from models.identity.one_time_token import OneTimeToken, Purpose
from models.identity.permission import ADMIN_SCOPE
from models.identity.user import User
from models.orders.order import Order
from models.orders.order_line import LineQuantity
from tests.api.accounts import bearer, fresh_address, grant_for, key_for, token_for
from tests.api.authenticators import enrolled
from tests.api.recovering import link_for
from tests.api.sample_calls import SampleCall, operations
from tests.authenticator import verify_address
from tests.factories import Person, make_account, make_order, make_product
from tests.models.reading import read_entries, read_payment
from tests.pictures import make_picture
from tests.service import PASSWORD, Service

_STATUS = {
    "bounce_order": "paid",
    "ship_order": "paid",
    "deliver_order": "shipped",
    "refund_order": "paid",
    "return_order": "shipped",
}
"""The state in which an order has to be for an action, where it is not a new one."""

_PURPOSES: Mapping[str, Purpose] = {
    "confirm_email": "verify_email",
    "confirm_password_reset": "set_password",
}
"""What the links are for that operations take."""

_REMOVED_BY = {"delete_avatar", "delete_product_image"}
"""Operations that remove a picture."""


class Things(NamedTuple):
    """Values for the places in a path, and for members of a body, by their names."""

    places: dict[str, object]
    members: dict[str, object]


def things_for(
    service: Service, operation: SampleCall, owner: User, caller: User | None = None
) -> Things:
    """Make what an operation's example needs to be done; accounts and orders are the owner's.

    A second factor is the caller's own, who is the owner by default.
    """
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
    in_path = re.findall(r"{(\w+)}", operation.path)
    if {"product_id", "order_id", "lines"} & {*in_path, *operation.members}:
        _stock(service, operation, owner, places, members)
    places |= _picture(service, operation, caller or owner, places.get("product_id"))
    for name in in_path:
        if name not in places:
            places[name] = _created(service, name, owner, places)
    return Things(places, members)


def _stock(
    service: Service,
    operation: SampleCall,
    buyer: User,
    places: dict[str, object],
    members: dict[str, object],
) -> None:
    """Make a product, and an order of two units if the path names one."""
    database = service.app.database
    product = make_product(database, price=1999, currency="USD", stock=1000)
    places["product_id"] = members["product_id"] = product.id
    members["lines"] = [LineQuantity(product_id=product.id, quantity=1)]
    if "{entry_id}" in operation.path:
        places["entry_id"] = read_entries(database, product)[0].id
    if "{order_id}" in operation.path:
        status = _STATUS.get(operation.id, "pending")
        lines = [(product, 2)]
        order = make_order(database, status=status, buyer=Person(buyer.id), lines=lines)
        places["order_id"] = order.id
        if "reference" in operation.members:
            members |= read_payment(database, order.id)


def _picture(
    service: Service, operation: SampleCall, user: User, product_id: object
) -> dict[str, object]:
    """Store a picture where the operation looks for one."""
    if "{path}" not in operation.path and operation.id not in _REMOVED_BY:
        return {"position": 1}
    database = service.app.database
    pictures = Pictures(database, FileStore(service.app.settings.storage_url))
    picture = pictures.receive(io.BytesIO(make_picture(size=(8, 8))))

    def work(session: Session) -> None:
        if operation.id == "delete_avatar":
            session.get_one(User, user.id).set_avatar(session, picture)
        elif operation.id == "delete_product_image":
            session.get_one(Product, product_id).set_image(session, 1, picture)

    database.transact(work)
    return {"path": picture.small.path, "position": 1}


def _created(service: Service, name: str, owner: User, places: Mapping[str, object]) -> object:
    """Have a thing made by the operation of the contract that makes it; give its name.

    The owner makes it, or an administrator what only administrators may make. That has no owner, so
    one with an address of its own is used again. `places` are what its path names besides.
    """
    maker = next(each for each in operations() if name in each.made)
    is_restricted = ADMIN_SCOPE in (maker.scopes or ())
    user = make_account(service, role="admin") if is_restricted else owner
    headers = bearer(token_for(service, user)) | fresh_address()
    with httpx.Client(base_url=service.url) as client:
        answer = service.shared.get(name)
        if answer is None or client.get(_place_of(answer), headers=headers).is_error:
            things = things_for(service, maker, owner)
            named = {**things.places, **places}
            answer = maker.call(client, headers, places=named, members=things.members)
            assert answer.status_code == maker.success, answer.text
            if is_restricted and "Location" in answer.headers:
                service.shared[name] = answer
    value: object = answer.json()[maker.made[name]]
    return value


def _place_of(answer: httpx.Response) -> str:
    return urlsplit(answer.headers["Location"]).path


def _waiting_sign_in(service: Service) -> dict[str, object]:
    user = make_account(service)
    lifetime = timedelta(minutes=5)
    issue = partial(OneTimeToken.issue, user=user, purpose="second_factor", lifetime=lifetime)
    challenge = service.app.database.transact(issue, write=True)
    return {"challenge": challenge, "code": enrolled(service, user).code()}


def _recovery(service: Service, operation: SampleCall) -> dict[str, object]:
    if operation.id not in _PURPOSES:
        return {"current_password": PASSWORD}
    token = link_for(service, make_account(service), _PURPOSES[operation.id])
    return {"token": token, "current_password": PASSWORD}


def _second_factor(service: Service, operation: SampleCall, user: User) -> dict[str, object]:
    """Let the caller be where the operation takes them from, with the code for it."""
    proof: dict[str, object] = {"current_password": PASSWORD}
    service.app.database.transact(lambda session: verify_address(session, user), write=True)
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
