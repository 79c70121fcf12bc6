"""Litestar with msgspec's structs and SQLAlchemy, its blocking handlers run in threads.

https://docs.litestar.dev/2/usage/dependency-injection.html and /topics/sync-vs-async.html.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import jwt
import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ClientException, NotAuthorizedException, NotFoundException
from litestar.params import Parameter
from sqlalchemy.orm import Session, sessionmaker

from tests.bench.peers import shop
from tests.bench.peers.msgspec_models import (
    Health,
    OrderCreate,
    OrderOut,
    OrderPage,
    UserOut,
)
from tests.bench.peers.tables import Order, User

reading, writing = shop.make_engines()
ReadingSession = sessionmaker(reading, expire_on_commit=False)
WritingSession = sessionmaker(writing, expire_on_commit=False)


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
