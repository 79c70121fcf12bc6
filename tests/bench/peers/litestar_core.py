"""Litestar and msgspec with `core`: one dependency on the event loop, and one hop for the SQL.

Litestar 2.25 wraps the first of two functions with one path twice in `sync_to_thread=True`, so they
go to a thread themselves.
"""

from typing import Annotated, TypeAlias

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import State
from litestar.di import Provide
from litestar.params import Parameter

from tests.bench.peers import core
from tests.bench.peers.msgspec_models import Health, OrderCreate
from tests.bench.peers.tuned import Actor, Refused

Asked: TypeAlias = Request[None, None, State]


async def provide_actor(request: Asked) -> Actor:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "there is no token")
    return await core.admit(token, request.route_handler.opt["scope"])


def refuse(_request: Asked, error: Refused) -> Response[dict[str, str]]:
    return Response({"message": str(error)}, status_code=error.status)


@get("/health", sync_to_thread=False)
def get_health() -> Health:
    return Health("ok")


@get("/v1/users/{user_id:int}", scope="users:read")
async def get_user(user_id: int, actor: Actor) -> Response[bytes]:
    answer = await sync_to_thread(core.read_user, actor, user_id)
    return Response(answer, media_type="application/json")


@get("/v1/orders", scope="orders:read")
async def list_orders(
    actor: Actor, limit: Annotated[int, Parameter(ge=1, le=100)] = 25
) -> Response[bytes]:
    answer = await sync_to_thread(core.read_orders, actor, limit)
    return Response(answer, media_type="application/json")


@post("/v1/orders", scope="orders:write")
async def create_order(
    data: OrderCreate,
    actor: Actor,
    key: Annotated[str, Parameter(header="Idempotency-Key", pattern=r"^[!-~]{1,255}$")],
) -> Response[bytes]:
    answer = await sync_to_thread(core.create_order, actor, key, msgspec.to_builtins(data))
    return Response(answer, media_type="application/json")


app = Litestar(
    [get_health, get_user, list_orders, create_order],
    dependencies={"actor": Provide(provide_actor)},
    exception_handlers={Refused: refuse},
)
