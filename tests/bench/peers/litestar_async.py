"""Litestar with msgspec's structs and SQLAlchemy for asyncio, all of it on the event loop.

https://docs.litestar.dev/2/tutorials/sqlalchemy/1-provide-session-with-di.html; see
`async_sessions` for the driver.
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import jwt
import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ClientException, NotAuthorizedException, NotFoundException
from litestar.params import Parameter
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.bench.peers import shop
from tests.bench.peers.async_sessions import ReadingSession, WritingSession
from tests.bench.peers.msgspec_models import (
    Health,
    OrderCreate,
    OrderOut,
    OrderPage,
    UserOut,
)
from tests.bench.peers.tables import Order, User


async def provide_session() -> AsyncIterator[AsyncSession]:
    async with ReadingSession() as session:
        yield session


async def provide_account(request: Request[None, None, State], session: AsyncSession) -> User:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        held = scheme.lower() == "bearer"
        scope = request.route_handler.opt["scope"]
        account = await session.run_sync(shop.account_of, token, scope)
    except jwt.InvalidTokenError:
        held, account = False, None
    if account is None or not held:
        raise NotAuthorizedException(headers={"WWW-Authenticate": "Bearer"})
    return account


@get("/health")
async def get_health() -> Health:
    return Health("ok")


@get("/v1/users/{user_id:int}", scope="users:read")
async def get_user(user_id: int, account: User, session: AsyncSession) -> UserOut:
    user = await session.run_sync(shop.visible_user, account, user_id)
    if user is None:
        raise NotFoundException
    return msgspec.convert(user, UserOut, from_attributes=True)


@get("/v1/orders", scope="orders:read")
async def list_orders(
    account: User, session: AsyncSession, limit: Annotated[int, Parameter(ge=1, le=100)] = 25
) -> OrderPage:
    orders, cursor = await session.run_sync(shop.read_orders, account, limit)
    return OrderPage(msgspec.convert(orders, list[OrderOut], from_attributes=True), cursor)


@post("/v1/orders", scope="orders:write")
async def create_order(
    data: OrderCreate,
    account: User,
    session: AsyncSession,
    key: Annotated[str, Parameter(header="Idempotency-Key", pattern=r"^[!-~]{1,255}$")],
) -> Response[bytes]:
    # What read the account ends here: SQLite's turn to write comes at the start of a transaction.
    await session.commit()
    try:
        async with WritingSession.begin() as work:
            answer = await work.run_sync(place, account.id, key, data)
    except (shop.Unplaceable, shop.KeyReused) as error:
        raise ClientException(str(error), status_code=422) from error
    except shop.OutOfStock as error:
        raise ClientException(str(error), status_code=409) from error
    # It is kept under the key, so it was written as JSON before the commit.
    return Response(answer, media_type="application/json")


def place(work: Session, user_id: int, key: str, data: OrderCreate) -> bytes:
    asked = msgspec.to_builtins(data)
    order = partial(
        shop.place_order,
        work,
        user_id,
        [(line.product_id, line.quantity) for line in data.lines],
        note=data.note,
        shipping_address=asked["shipping_address"],
        metadata=data.metadata,
    )
    return shop.place_once(work, user_id, key, asked, order, write_order)


def write_order(order: Order) -> bytes:
    return msgspec.json.encode(msgspec.convert(order, OrderOut, from_attributes=True))


app = Litestar(
    [get_health, get_user, list_orders, create_order],
    dependencies={
        "session": Provide(provide_session),
        "account": Provide(provide_account),
    },
)
