"""Stock connexion[flask] with its own specification beside it, and SQLAlchemy.

Its defaults with strict validation (https://connexion.readthedocs.io): requests are validated,
answers are what the handlers return. Security functions are where its documentation has them.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import connexion
import jwt
from flask import Response, abort
from sqlalchemy.orm import sessionmaker

from tests.bench.peers import shop
from tests.bench.peers.settings import read_token
from tests.bench.peers.tables import Order, OrderLine, User

reading, writing = shop.make_engines()
ReadingSession = sessionmaker(reading, expire_on_commit=False)
WritingSession = sessionmaker(writing, expire_on_commit=False)
Answer = Mapping[str, object]


class OrderCreate(TypedDict):
    lines: list[dict[str, int]]
    note: NotRequired[str | None]
    shipping_address: NotRequired[dict[str, str] | None]
    metadata: NotRequired[dict[str, str]]


def bearer_info(token: str) -> dict[str, Any] | None:
    """What connexion calls with a bearer token, before it validates anything."""
    try:
        _, _, scopes = read_token(token)
        with ReadingSession() as session:
            account = shop.account_of(session, token, next(iter(scopes)))
    except jwt.InvalidTokenError:
        return None
    return None if account is None else {"sub": account, "scopes": scopes}


def require(token_info: dict[str, Any], scope: str) -> User:
    account: User = token_info["sub"]
    return account if scope in token_info["scopes"] else abort(403)


def get_health() -> Answer:
    return {"status": "ok"}


def get_user(user_id: int, token_info: dict[str, Any]) -> Answer:
    account = require(token_info, "users:read")
    with ReadingSession() as session:
        user = shop.visible_user(session, account, user_id) or abort(404)
    return {
        "id": user.id,
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "active": user.active,
        "email_verified": user.email_verified,
        "password_change_required": user.password_change_required,
        "avatar": user.avatar,
        "created_at": user.created_at.isoformat(),
        "updated_at": user.updated_at.isoformat(),
    }


def list_orders(token_info: dict[str, Any], limit: int) -> Answer:
    account = require(token_info, "orders:read")
    with ReadingSession() as session:
        orders, cursor = shop.read_orders(session, account, limit)
    return {"items": [order_as_dict(order) for order in orders], "next_cursor": cursor}


def create_order(body: OrderCreate, token_info: dict[str, Any]) -> object:
    account = require(token_info, "orders:write")
    key = connexion.request.headers["Idempotency-Key"]
    try:
        with WritingSession.begin() as work:
            place = partial(
                shop.place_order,
                work,
                account.id,
                [(line["product_id"], line["quantity"]) for line in body["lines"]],
                note=body.get("note"),
                shipping_address=body.get("shipping_address"),
                metadata=body.get("metadata", {}),
            )
            answer = shop.place_once(work, account.id, key, body, place, write_order)
    except (shop.Unplaceable, shop.KeyReused) as error:
        return {"message": str(error)}, 422
    except shop.OutOfStock as error:
        return {"message": str(error)}, 409
    # It is kept under the key, so it was written as JSON before the commit.
    return Response(answer, 201, mimetype="application/json")


def write_order(order: Order) -> bytes:
    text: str = app.app.json.dumps(order_as_dict(order))
    return text.encode()


def order_as_dict(order: Order) -> Answer:
    return {
        "id": str(order.id),
        "user_id": order.user_id,
        "status": order.status,
        "allowed_actions": order.allowed_actions,
        "lines": [line_as_dict(line) for line in order.lines],
        "total": order.total,
        "paid": order.paid,
        "refunded": order.refunded,
        "unapplied": order.unapplied,
        "due": order.due,
        "note": order.note,
        "shipping_address": order.shipping_address,
        "metadata": order.labels,
        "expires_at": order.expires_at and order.expires_at.isoformat(),
        "created_at": order.created_at.isoformat(),
        "updated_at": order.updated_at.isoformat(),
    }


def line_as_dict(line: OrderLine) -> Answer:
    return {
        "product_id": line.product_id,
        "sku": line.sku,
        "name": line.name,
        "unit_price": line.unit_price,
        "quantity": line.quantity,
        "total": line.total,
        "shipped": line.shipped,
        "returned": line.returned,
    }


app = connexion.FlaskApp(__name__, specification_dir=str(Path(__file__).parent))
app.add_api("connexion_stock.yaml", strict_validation=True)
