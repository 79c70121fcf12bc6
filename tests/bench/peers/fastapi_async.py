"""FastAPI with SQLAlchemy for asyncio; see `async_sessions` for both."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.bench.peers import shop
from tests.bench.peers.async_sessions import ReadingSession, WritingSession
from tests.bench.peers.pydantic_models import (
    Health,
    IdempotencyKey,
    OrderCreate,
    OrderOut,
    OrderPage,
    UserOut,
)
from tests.bench.peers.tables import Order, User

app = FastAPI()
bearer = HTTPBearer()


async def get_session() -> AsyncIterator[AsyncSession]:
    async with ReadingSession() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


async def current_account(
    scopes: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
    session: SessionDep,
) -> User:
    try:
        account = await session.run_sync(shop.account_of, credentials.credentials, scopes.scope_str)
    except jwt.InvalidTokenError:
        account = None
    if account is None:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
    return account


@app.get("/health")
async def get_health() -> Health:
    return Health(status="ok")


@app.get("/v1/users/{user_id}", response_model=UserOut)
async def get_user(
    user_id: int,
    account: Annotated[User, Security(current_account, scopes=["users:read"])],
    session: SessionDep,
) -> User:
    user = await session.run_sync(shop.visible_user, account, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/v1/orders", response_model=OrderPage)
async def list_orders(
    account: Annotated[User, Security(current_account, scopes=["orders:read"])],
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> dict[str, object]:
    orders, cursor = await session.run_sync(shop.read_orders, account, limit)
    return {"items": orders, "next_cursor": cursor}


@app.post("/v1/orders", status_code=201, response_model=OrderOut)
async def create_order(
    body: OrderCreate,
    key: Annotated[IdempotencyKey, Header(alias="Idempotency-Key")],
    account: Annotated[User, Security(current_account, scopes=["orders:write"])],
    session: SessionDep,
) -> Response:
    # What read the account ends here: SQLite's turn to write comes at the start of a transaction.
    await session.commit()
    try:
        async with WritingSession.begin() as work:
            answer = await work.run_sync(place, account.id, key, body)
    except (shop.Unplaceable, shop.KeyReused) as error:
        raise HTTPException(422, str(error)) from error
    except shop.OutOfStock as error:
        raise HTTPException(409, str(error)) from error
    # It is kept under the key, so it was written as JSON before the commit.
    return Response(answer, 201, media_type="application/json")


def place(work: Session, user_id: int, key: str, body: OrderCreate) -> bytes:
    asked = body.model_dump()
    order = partial(
        shop.place_order,
        work,
        user_id,
        [(line.product_id, line.quantity) for line in body.lines],
        note=body.note,
        shipping_address=asked["shipping_address"],
        metadata=body.metadata,
    )
    return shop.place_once(work, user_id, key, asked, order, write_order)


def write_order(order: Order) -> bytes:
    return OrderOut.model_validate(order).model_dump_json().encode()
