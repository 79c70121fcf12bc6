"""flask-smorest with marshmallow's schemas and SQLAlchemy (https://flask-smorest.readthedocs.io)."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final, ParamSpec, TypeVar

import jwt
import marshmallow as ma
from flask import Flask, Response, g, request
from flask.views import MethodView
from flask_smorest import Api, Blueprint, abort
from marshmallow.validate import ContainsOnly, Length, OneOf, Range, Regexp
from sqlalchemy.orm import Session, sessionmaker

from tests.bench.peers import shop
from tests.bench.peers.tables import Order, User

P = ParamSpec("P")
R = TypeVar("R")

ACTIONS: Final = (
    *("update", "pay", "cancel", "reduce", "ship", "deliver", "refund", "return", "bounce"),
)
TEXT: Final = (Length(1, 100), Regexp(r"^[^\x00-\x1f\x7f-\x9f]+\Z"))
NOTE: Final = (Length(max=1000), Regexp(r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*\Z"))
LABEL: Final = (Length(max=500), Regexp(r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*\Z"))

reading, writing = shop.make_engines()
ReadingSession = sessionmaker(reading, expire_on_commit=False)
WritingSession = sessionmaker(writing, expire_on_commit=False)
app = Flask(__name__)
app.config.update(API_TITLE="Orders", API_VERSION="v1", OPENAPI_VERSION="3.0.3")
api = Api(app)
blp = Blueprint("v1", __name__)


class AddressSchema(ma.Schema):
    name = ma.fields.String(required=True, validate=TEXT)
    line1 = ma.fields.String(required=True, validate=TEXT)
    line2 = ma.fields.String(validate=TEXT)
    city = ma.fields.String(required=True, validate=TEXT)
    region = ma.fields.String(validate=TEXT)
    postal_code = ma.fields.String(validate=TEXT)
    country = ma.fields.String(required=True, validate=Regexp(r"^[A-Z]{2}\Z"))


class OrderLineCreateSchema(ma.Schema):
    product_id = ma.fields.Integer(required=True, strict=True, validate=Range(1, 2**63 - 1))
    quantity = ma.fields.Integer(required=True, strict=True, validate=Range(1, 100_000))


class OrderCreateSchema(ma.Schema):
    lines = ma.fields.List(
        ma.fields.Nested(OrderLineCreateSchema), required=True, validate=Length(1, 100)
    )
    note = ma.fields.String(load_default=None, allow_none=True, validate=NOTE)
    shipping_address = ma.fields.Nested(AddressSchema, load_default=None, allow_none=True)
    metadata = ma.fields.Dict(
        keys=ma.fields.String(validate=Regexp(r"^[A-Za-z0-9_.-]{1,40}\Z")),
        values=ma.fields.String(validate=LABEL),
        load_default=dict,
        validate=Length(max=50),
    )


class ListArguments(ma.Schema):
    limit = ma.fields.Integer(load_default=25, validate=Range(1, 100))


class KeyArguments(ma.Schema):
    class Meta:
        unknown = ma.EXCLUDE

    key = ma.fields.String(
        required=True, data_key="Idempotency-Key", validate=Regexp(r"^[!-~]{1,255}\Z")
    )


class HealthSchema(ma.Schema):
    status = ma.fields.String(required=True, validate=OneOf(["ok"]))


class PictureFileSchema(ma.Schema):
    path = ma.fields.String()
    url = ma.fields.String()
    width = ma.fields.Integer()
    height = ma.fields.Integer()


class AvatarSchema(ma.Schema):
    original = ma.fields.Nested(PictureFileSchema)
    medium = ma.fields.Nested(PictureFileSchema)
    small = ma.fields.Nested(PictureFileSchema)


class UserSchema(ma.Schema):
    id = ma.fields.Integer()
    name = ma.fields.String()
    email = ma.fields.String()
    role = ma.fields.String(validate=OneOf(["user", "admin"]))
    active = ma.fields.Boolean()
    email_verified = ma.fields.Boolean()
    password_change_required = ma.fields.Boolean()
    avatar = ma.fields.Nested(AvatarSchema, allow_none=True)
    created_at = ma.fields.DateTime()
    updated_at = ma.fields.DateTime()


class MoneySchema(ma.Schema):
    amount = ma.fields.Integer()
    currency = ma.fields.String()


class OrderLineSchema(ma.Schema):
    product_id = ma.fields.Integer()
    sku = ma.fields.String()
    name = ma.fields.String()
    unit_price = ma.fields.Nested(MoneySchema)
    quantity = ma.fields.Integer()
    total = ma.fields.Nested(MoneySchema)
    shipped = ma.fields.Integer()
    returned = ma.fields.Integer()


class OrderSchema(ma.Schema):
    id = ma.fields.UUID()
    user_id = ma.fields.Integer()
    status = ma.fields.String()
    allowed_actions = ma.fields.List(ma.fields.String(), validate=ContainsOnly(ACTIONS))
    lines = ma.fields.List(ma.fields.Nested(OrderLineSchema))
    total = ma.fields.Nested(MoneySchema)
    paid = ma.fields.Nested(MoneySchema)
    refunded = ma.fields.Nested(MoneySchema)
    unapplied = ma.fields.Nested(MoneySchema)
    due = ma.fields.Nested(MoneySchema)
    note = ma.fields.String(allow_none=True)
    shipping_address = ma.fields.Nested(AddressSchema, allow_none=True)
    metadata = ma.fields.Dict(
        keys=ma.fields.String(), values=ma.fields.String(), attribute="labels"
    )
    expires_at = ma.fields.DateTime(allow_none=True)
    created_at = ma.fields.DateTime()
    updated_at = ma.fields.DateTime()


class OrderPageSchema(ma.Schema):
    items = ma.fields.List(ma.fields.Nested(OrderSchema))
    next_cursor = ma.fields.String(allow_none=True)


ORDER = OrderSchema()


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


def needs(scope: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let nobody in without a token that has the scope."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            given = request.authorization
            try:
                g.account = given and shop.account_of(session(), given.token or "", scope)
            except jwt.InvalidTokenError:
                g.account = None
            if g.account is None:
                abort(401)
            return view(*args, **kwargs)

        return checked

    return decorate


@blp.route("/health")
class Health(MethodView):
    @blp.response(200, HealthSchema)
    def get(self) -> dict[str, str]:
        return {"status": "ok"}


@blp.route("/v1/users/<int:user_id>")
class Users(MethodView):
    @needs("users:read")
    @blp.response(200, UserSchema)
    def get(self, user_id: int) -> User:
        return shop.visible_user(session(), g.account, user_id) or abort(404)


@blp.route("/v1/orders")
class Orders(MethodView):
    @needs("orders:read")
    @blp.arguments(ListArguments, location="query")
    @blp.response(200, OrderPageSchema)
    def get(self, arguments: dict[str, int]) -> dict[str, object]:
        orders, cursor = shop.read_orders(session(), g.account, arguments["limit"])
        return {"items": orders, "next_cursor": cursor}

    @needs("orders:write")
    @blp.arguments(KeyArguments, location="headers")
    @blp.arguments(OrderCreateSchema)
    @blp.response(201, OrderSchema)
    def post(self, arguments: dict[str, str], body: dict[str, Any]) -> Response:
        # What read the account ends here: SQLite's turn to write is at a transaction's start.
        session().commit()
        user_id = g.account.id
        try:
            with WritingSession.begin() as work:
                place = partial(
                    shop.place_order,
                    work,
                    user_id,
                    [(line["product_id"], line["quantity"]) for line in body["lines"]],
                    note=body["note"],
                    shipping_address=body["shipping_address"],
                    metadata=body["metadata"],
                )
                key = arguments["key"]
                answer = shop.place_once(work, user_id, key, body, place, write_order)
            # It is kept under the key, so it was written as JSON before the commit.
            return Response(answer, 201, mimetype="application/json")
        except (shop.Unplaceable, shop.KeyReused) as error:
            return abort(422, message=str(error))
        except shop.OutOfStock as error:
            return abort(409, message=str(error))


def write_order(order: Order) -> bytes:
    return app.json.dumps(ORDER.dump(order)).encode()


api.register_blueprint(blp)
