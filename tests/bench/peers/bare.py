"""A bare ASGI function with msgspec: the least that any Python framework could cost."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import msgspec

from tests.bench.peers.msgspec_models import IdempotencyKey, Limit, OrderCreate
from tests.bench.peers.settings import THREADS
from tests.bench.peers.tuned import Refused

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

pool = ThreadPoolExecutor(THREADS)
decoder = msgspec.json.Decoder(OrderCreate)


def make_app(sql: ModuleType) -> App:
    """Return the application that uses the SQL of a module, `core` or `drivers`."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for message in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{message}.complete"})
            return
        try:
            status, answer = await respond(sql, scope, receive)
        except Refused as error:
            status, answer = error.status, msgspec.json.encode({"message": str(error)})
        except msgspec.MsgspecError as error:
            status, answer = 422, msgspec.json.encode({"message": str(error)})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


async def respond(sql: ModuleType, scope: Message, receive: Receive) -> tuple[int, bytes]:
    run = asyncio.get_running_loop().run_in_executor
    method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
    if (method, path) == ("GET", "/health"):
        return 200, b'{"status":"ok"}'
    scheme, _, token = headers.get(b"authorization", b"").decode().partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "there is no token")
    if (method, path) == ("POST", "/v1/orders"):
        actor = await sql.admit(token, "orders:write")
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked = msgspec.to_builtins(decoder.decode(body))
        key = msgspec.convert(headers.get(b"idempotency-key", b"").decode(), IdempotencyKey)
        return 201, await run(pool, sql.create_order, actor, key, asked)
    if (method, path) == ("GET", "/v1/orders"):
        actor = await sql.admit(token, "orders:read")
        given = parse_qs(scope["query_string"].decode()).get("limit", ["25"])
        limit = msgspec.convert(given[0], Limit, strict=False)
        return 200, await run(pool, sql.read_orders, actor, limit)
    folder, _, number = path.rpartition("/")
    if (method, folder) != ("GET", "/v1/users") or not number.isdecimal():
        raise Refused(404, "there is no such page")
    actor = await sql.admit(token, "users:read")
    return 200, await run(pool, sql.read_user, actor, int(number))
