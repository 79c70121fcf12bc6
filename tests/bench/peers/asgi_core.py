"""A bare ASGI function with `core` and msgspec: what any framework for Python costs at least."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import msgspec

from tests.bench.peers import core
from tests.bench.peers.msgspec_models import IdempotencyKey, Limit, OrderCreate
from tests.bench.peers.settings import THREADS

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

pool = ThreadPoolExecutor(THREADS)
decoder = msgspec.json.Decoder(OrderCreate)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for message in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{message}.complete"})
        return
    try:
        status, answer = await respond(scope, receive)
    except core.Refused as error:
        status, answer = error.status, msgspec.json.encode({"message": str(error)})
    except msgspec.MsgspecError as error:
        status, answer = 422, msgspec.json.encode({"message": str(error)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def respond(scope: Message, receive: Receive) -> tuple[int, bytes]:
    run = asyncio.get_running_loop().run_in_executor
    method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
    if (method, path) == ("GET", "/health"):
        return 200, b'{"status":"ok"}'
    scheme, _, token = headers.get(b"authorization", b"").decode().partition(" ")
    if scheme.lower() != "bearer":
        raise core.Refused(401, "there is no token")
    if (method, path) == ("POST", "/v1/orders"):
        actor = await core.admit(token, "orders:write")
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked = msgspec.to_builtins(decoder.decode(body))
        key = msgspec.convert(headers.get(b"idempotency-key", b"").decode(), IdempotencyKey)
        return 201, await run(pool, core.create_order, actor, key, asked)
    if (method, path) == ("GET", "/v1/orders"):
        actor = await core.admit(token, "orders:read")
        given = parse_qs(scope["query_string"].decode()).get("limit", ["25"])
        limit = msgspec.convert(given[0], Limit, strict=False)
        return 200, await run(pool, core.read_orders, actor, limit)
    folder, _, number = path.rpartition("/")
    if (method, folder) != ("GET", "/v1/users") or not number.isdecimal():
        raise core.Refused(404, "there is no such page")
    actor = await core.admit(token, "users:read")
    return 200, await run(pool, core.read_user, actor, int(number))
