"""A service of stock connexion[flask], and requests to it without a network, for `upstream.py`."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import connexion

AsgiApp: TypeAlias = Callable[..., Awaitable[None]]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"content-type", b"application/json"),)
_LINE = {
    "type": "object",
    "required": ["product", "quantity"],
    "properties": {"product": {"type": "integer"}, "quantity": {"type": "integer", "minimum": 1}},
}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: bytes = b""
    headers: Headers = ()
    body: bytes = b""
    chunked: bool = False

    def scope(self) -> dict[str, Any]:
        length: Headers = ()
        if self.chunked:
            length = ((b"transfer-encoding", b"chunked"),)
        elif self.body:
            length = ((b"content-length", str(len(self.body)).encode()),)
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": [(b"host", b"localhost"), *length, *self.headers],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 80),
        }


HEALTH = Request("GET", "/health")
THING = Request("GET", "/things/7", b"limit=7")
ORDER = Request(
    *("POST", "/orders", b"", JSON),
    json.dumps({"lines": [{"product": 1, "quantity": 2}] * 3}).encode(),
)


def health() -> dict[str, str]:
    return {"status": "ok"}


def read_thing(number: int, limit: int = 1) -> dict[str, int]:
    return {"number": number, "limit": limit}


def read_name(name: str) -> dict[str, str]:
    return {"name": name}


def place_order(body: dict[str, list[object]]) -> dict[str, int]:
    return {"lines": len(body["lines"])}


def refuse(_token: str) -> None:
    """Check a token, in vain.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("the database is down")


def operation(name: str, **more: object) -> dict[str, Any]:
    """An operation of the contract; `name` is that of a function of this module."""
    answers = {"200": {"description": "Done."}}
    return {"operationId": f"{__name__}.{name}", "responses": answers} | more


def contract(more: Mapping[str, object] | None = None) -> dict[str, Any]:
    """A contract of four operations, and more."""
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    order = {
        "type": "object",
        "required": ["lines"],
        "properties": {"lines": {"type": "array", "items": _LINE}},
    }
    body = {"required": True, "content": {"application/json": {"schema": order}}}
    paths = {
        "/health": {"get": operation("health")},
        "/things/{number}": {"get": operation("read_thing", parameters=[number, limit])},
        "/names/{name}": {"get": operation("read_name", parameters=[name])},
        "/orders": {"post": operation("place_order", requestBody=body)},
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "Stock", "version": "1"},
        "paths": paths | dict(more or {}),
    }


def stock(specification: dict[str, Any] | None = None, **options: object) -> AsgiApp:
    """connexion[flask] with nothing but its defaults."""
    app: Any = connexion.FlaskApp(__name__)
    app.add_api(specification or contract(), **options)
    return app  # type: ignore[no-any-return]  # connexion has no types.


async def ask(app: AsgiApp, request: Request) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    messages = [{"type": "http.request", "body": request.body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(request.scope(), receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])
