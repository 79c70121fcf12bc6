"""Flask by hand: no validation, no contract, no schema; what anything on Flask costs at least."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jwt
from flask import Flask, Response, abort, g, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session, sessionmaker

from tests.bench.peers import shop
from tests.bench.peers.tables import Order, User

reading, writing = shop.make_engines()
ReadingSession = sessionmaker(reading, expire_on_commit=False)
WritingSession = sessionmaker(writing, expire_on_commit=False)
app = Flask(__name__)


def session() -> Session:
    if "session" not in g:
        g.session = ReadingSession()
    opened: Session = g.session
    return opened


@app.teardown_appcontext
def close_session(_error: BaseException | None) -> None:
    opened = g.pop("session", None)
    if opened is not None:
        opened.close()


def current_account(scope: str) -> User:
    given = request.authorization
    try:
        account = given and shop.account_of(session(), given.token or "", scope)
    except jwt.InvalidTokenError:
        account = None
    return account or abort(401)


@app.get("/health")
def get_health() -> ResponseReturnValue:
    return {"status": "ok"}


@app.get("/v1/users/<int:user_id>")
def get_user(user_id: int) -> ResponseReturnValue:
    user = shop.visible_user(session(), current_account("users:read"), user_id) or abort(404)
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


@app.get("/v1/orders")
def list_orders() -> ResponseReturnValue:
    account = current_account("orders:read")
    orders, cursor = shop.read_orders(session(), account, int(request.args.get("limit", 25)))
    return {"items": [order_as_dict(order) for order in orders], "next_cursor": cursor}


@app.post("/v1/orders")
def create_order() -> ResponseReturnValue:
    account = current_account("orders:write")
    body: dict[str, Any] = request.get_json()
    key = request.headers["Idempotency-Key"]
    # What read the account ends here: SQLite's turn to write comes at the start of a transaction.
    session().commit()
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
    return Response(answer, 201, mimetype="application/json")


def write_order(order: Order) -> bytes:
    return app.json.dumps(order_as_dict(order)).encode()


def order_as_dict(order: Order) -> Mapping[str, object]:
    return {
        "id": str(order.id),
        "user_id": order.user_id,
        "status": order.status,
        "allowed_actions": order.allowed_actions,
        "lines": [
            {
                "product_id": line.product_id,
                "sku": line.sku,
                "name": line.name,
                "unit_price": line.unit_price,
                "quantity": line.quantity,
                "total": line.total,
                "shipped": line.shipped,
                "returned": line.returned,
            }
            for line in order.lines
        ],
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
