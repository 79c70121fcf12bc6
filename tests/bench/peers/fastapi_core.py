"""FastAPI with `core`: one dependency on the event loop, and one hop to a thread for the SQL."""

from typing import Annotated

from fastapi import Depends, FastAPI, Header, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from tests.bench.peers import core
from tests.bench.peers.pydantic_models import Health, IdempotencyKey, OrderCreate
from tests.bench.peers.tuned import Actor, Refused

app = FastAPI()
bearer = HTTPBearer()


@app.exception_handler(Refused)
async def refuse(_request: Request, error: Refused) -> Response:
    return JSONResponse({"message": str(error)}, error.status)


async def caller(
    scopes: SecurityScopes, credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]
) -> Actor:
    return await core.admit(credentials.credentials, scopes.scope_str)


@app.get("/health")
async def get_health() -> Health:
    return Health(status="ok")


@app.get("/v1/users/{user_id}")
def get_user(
    user_id: int, actor: Annotated[Actor, Security(caller, scopes=["users:read"])]
) -> Response:
    return Response(core.read_user(actor, user_id), media_type="application/json")


@app.get("/v1/orders")
def list_orders(
    actor: Annotated[Actor, Security(caller, scopes=["orders:read"])],
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> Response:
    return Response(core.read_orders(actor, limit), media_type="application/json")


@app.post("/v1/orders")
def create_order(
    body: OrderCreate,
    key: Annotated[IdempotencyKey, Header(alias="Idempotency-Key")],
    actor: Annotated[Actor, Security(caller, scopes=["orders:write"])],
) -> Response:
    answer = core.create_order(actor, key, body.model_dump())
    return Response(answer, 201, media_type="application/json")
