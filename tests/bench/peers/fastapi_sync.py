"""FastAPI with SQLAlchemy, in plain functions, as FastAPI's tutorial has them.

https://fastapi.tiangolo.com/tutorial/sql-databases/ and /advanced/security/oauth2-scopes/.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from sqlalchemy.orm import Session, sessionmaker

from tests.bench.peers import shop
from tests.bench.peers.pydantic_models import (
    Health,
    IdempotencyKey,
    OrderCreate,
    OrderOut,
    OrderPage,
    UserOut,
)
from tests.bench.peers.tables import Order, User

reading, writing = shop.make_engines()
ReadingSession = sessionmaker(reading, expire_on_commit=False)
WritingSession = sessionmaker(writing, expire_on_commit=False)
app = FastAPI()
bearer = HTTPBearer()


def get_session() -> Iterator[Session]:
    with ReadingSession() as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]


def current_account(
    scopes: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
    session: SessionDep,
) -> User:
    try:
        account = shop.account_of(session, credentials.credentials, scopes.scope_str)
    except jwt.InvalidTokenError:
        account = None
    if account is None:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
    return account


@app.get("/health")
def get_health() -> Health:
    return Health(status="ok")


@app.get("/v1/users/{user_id}", response_model=UserOut)
def get_user(
    user_id: int,
    account: Annotated[User, Security(current_account, scopes=["users:read"])],
    session: SessionDep,
) -> User:
    user = shop.visible_user(session, account, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/v1/orders", response_model=OrderPage)
def list_orders(
    account: Annotated[User, Security(current_account, scopes=["orders:read"])],
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> dict[str, object]:
    orders, cursor = shop.read_orders(session, account, limit)
    return {"items": orders, "next_cursor": cursor}


@app.post("/v1/orders", status_code=201, response_model=OrderOut)
def create_order(
    body: OrderCreate,
    key: Annotated[IdempotencyKey, Header(alias="Idempotency-Key")],
    account: Annotated[User, Security(current_account, scopes=["orders:write"])],
    session: SessionDep,
) -> Response:
    # What read the account ends here: SQLite's turn to write comes at the start of a transaction.
    session.commit()
    asked = body.model_dump()
    lines = [(line.product_id, line.quantity) for line in body.lines]
    try:
        with WritingSession.begin() as work:
            place = partial(
                shop.place_order,
                work,
                account.id,
                lines,
                note=body.note,
                shipping_address=asked["shipping_address"],
                metadata=body.metadata,
            )
            answer = shop.place_once(work, account.id, key, asked, place, write_order)
    except (shop.Unplaceable, shop.KeyReused) as error:
        raise HTTPException(422, str(error)) from error
    except shop.OutOfStock as error:
        raise HTTPException(409, str(error)) from error
    # It is kept under the key, so it was written as JSON before the commit.
    return Response(answer, 201, media_type="application/json")


def write_order(order: Order) -> bytes:
    return OrderOut.model_validate(order).model_dump_json().encode()
