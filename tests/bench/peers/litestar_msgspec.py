"""Litestar with msgspec's structs and SQLAlchemy, its blocking handlers run in threads.

https://docs.litestar.dev/2/usage/dependency-injection.html and /topics/sync-vs-async.html.
"""

# mypy: disable-error-code="call-arg"
# msgspec is not where mypy looks, so it does not know what its structs can be told.
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

import jwt
import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ClientException, NotAuthorizedException, NotFoundException
from litestar.params import Parameter
from msgspec import UNSET, Meta, Struct, UnsetType, field
from sqlalchemy.orm import Session, sessionmaker

from tests.bench.peers import shop
from tests.bench.peers.tables import Order, User

reading, writing = shop.make_engines()
ReadingSession = sessionmaker(reading, expire_on_commit=False)
WritingSession = sessionmaker(writing, expire_on_commit=False)

Text = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Note = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
Label = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]
LabelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
Status = Literal[
    "pending",
    "paid",
    "partially_shipped",
    "shipped",
    "delivered",
    "cancelled",
    "expired",
    "refunded",
]
Action = Literal["update", "pay", "cancel", "ship", "deliver", "refund"]


class Address(Struct, forbid_unknown_fields=True, kw_only=True):
    name: Text
    line1: Text
    line2: Text | UnsetType = UNSET
    city: Text
    region: Text | UnsetType = UNSET
    postal_code: Text | UnsetType = UNSET
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}$")]


class OrderLineCreate(Struct, forbid_unknown_fields=True):
    product_id: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    quantity: Annotated[int, Meta(ge=1, le=100_000)]


class OrderCreate(Struct, forbid_unknown_fields=True):
    lines: Annotated[list[OrderLineCreate], Meta(min_length=1, max_length=100)]
    note: Note | None = None
    shipping_address: Address | None = None
    metadata: Annotated[dict[LabelName, Label], Meta(max_length=50)] = field(default_factory=dict)


class Health(Struct):
    status: Literal["ok"]


class UserOut(Struct):
    id: int
    name: str
    email: str
    role: Literal["user", "admin"]
    active: bool
    email_verified: bool
    password_change_required: bool
    created_at: datetime
    updated_at: datetime


class MoneyOut(Struct):
    amount: int
    currency: str


class OrderLineOut(Struct):
    product_id: int
    sku: str
    name: str
    unit_price: MoneyOut
    quantity: int
    total: MoneyOut
    shipped: int
    returned: int


class OrderOut(Struct):
    id: UUID
    user_id: int
    status: Status
    allowed_actions: list[Action]
    lines: list[OrderLineOut]
    total: MoneyOut
    paid: MoneyOut
    refunded: MoneyOut
    note: str | None
    shipping_address: Address | None
    labels: dict[str, str] = field(name="metadata")
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class OrderPage(Struct):
    items: list[OrderOut]
    next_cursor: str | None


def provide_session() -> Iterator[Session]:
    """It connects at the first statement, in the handler's thread, so it does not block here."""
    with ReadingSession() as session:
        yield session


def provide_account(request: Request[None, None, State], session: Session) -> User:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        held = scheme.lower() == "bearer"
        account = shop.account_of(session, token, request.route_handler.opt["scope"])
    except jwt.InvalidTokenError:
        held, account = False, None
    if account is None or not held:
        raise NotAuthorizedException(headers={"WWW-Authenticate": "Bearer"})
    return account


@get("/health", sync_to_thread=False)
def get_health() -> Health:
    return Health("ok")


@get("/v1/users/{user_id:int}", sync_to_thread=True, scope="users:read")
def get_user(user_id: int, account: User, session: Session) -> UserOut:
    user = shop.visible_user(session, account, user_id)
    if user is None:
        raise NotFoundException
    return msgspec.convert(user, UserOut, from_attributes=True)


@get("/v1/orders", sync_to_thread=True, scope="orders:read")
def list_orders(
    account: User, session: Session, limit: Annotated[int, Parameter(ge=1, le=100)] = 25
) -> OrderPage:
    orders, cursor = shop.read_orders(session, account, limit)
    return OrderPage(msgspec.convert(orders, list[OrderOut], from_attributes=True), cursor)


@post("/v1/orders", sync_to_thread=True, scope="orders:write")
def create_order(
    data: OrderCreate,
    account: User,
    session: Session,
    key: Annotated[str, Parameter(header="Idempotency-Key", pattern=r"^[!-~]{1,255}$")],
) -> Response[bytes]:
    # What read the account ends here: SQLite's turn to write comes at the start of a transaction.
    session.commit()
    asked = msgspec.to_builtins(data)
    try:
        with WritingSession.begin() as work:
            place = partial(
                shop.place_order,
                work,
                account.id,
                [(line.product_id, line.quantity) for line in data.lines],
                note=data.note,
                shipping_address=asked["shipping_address"],
                metadata=data.metadata,
            )
            answer = shop.place_once(work, account.id, key, asked, place, write_order)
    except (shop.Unplaceable, shop.KeyReused) as error:
        raise ClientException(str(error), status_code=422) from error
    except shop.OutOfStock as error:
        raise ClientException(str(error), status_code=409) from error
    # It is kept under the key, so it was written as JSON before the commit.
    return Response(answer, media_type="application/json")


def write_order(order: Order) -> bytes:
    return msgspec.json.encode(msgspec.convert(order, OrderOut, from_attributes=True))


app = Litestar(
    [get_health, get_user, list_orders, create_order],
    dependencies={
        "session": Provide(provide_session),
        "account": Provide(provide_account, sync_to_thread=True),
    },
)
