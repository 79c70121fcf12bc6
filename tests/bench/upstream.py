"""The figures of UPSTREAM.md: `python tests/bench/upstream.py`.

It knows nothing of Concord, and needs connexion[flask], a2wsgi and uvicorn alone.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import asyncio
import itertools
import json
import logging
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import flask
import uvicorn
from a2wsgi import WSGIMiddleware

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import upstream_stock
from tests.bench.telling import machine, say
from tests.bench.upstream_costs import OneHop, costs
from tests.bench.upstream_stock import (
    HEALTH,
    ORDER,
    THING,
    AsgiApp,
    Request,
    ask,
    contract,
    operation,
    stock,
)

_PACKAGES = ("connexion", "a2wsgi", "flask", "werkzeug", "starlette", "jsonschema", "uvicorn")
_ROUTES = (10, 100, 1_000)
_SLOW = 10
"""As many clients as a2wsgi has threads."""
_OBJECT = {"schema": {"type": "object"}}
_TWO = {
    "200": {"description": "Done.", "content": {"application/json": _OBJECT}},
    "404": {"description": "None.", "content": {"application/problem+json": _OBJECT}},
}
_BEARER = ((b"authorization", b"Bearer token"),)
_numbers = itertools.count()


def spent() -> Iterator[tuple[str, float]]:
    """Microseconds a request, by what is called."""
    plain: Any = flask.Flask("plain")
    plain.add_url_rule("/health", view_func=upstream_stock.health)
    with mock.patch("connexion.apps.flask.WSGIMiddleware", OneHop):
        hopping = stock()
    apps: dict[str, tuple[AsgiApp, Request]] = {
        "Flask, GET, called as WSGI": (OneHop(plain, threads=False), HEALTH),
        "Flask, GET, in one thread hop": (OneHop(plain), HEALTH),
        "Flask, GET, through a2wsgi": (WSGIMiddleware(plain), HEALTH),
        "connexion[flask], GET": (stock(), HEALTH),
        "connexion[flask], GET, two parameters": (stock(), THING),
        "connexion[flask], POST, body not validated": (stock(validator_map={"body": {}}), ORDER),
        "connexion[flask], POST, body validated": (stock(), ORDER),
        "connexion[flask], GET, one thread hop": (hopping, HEALTH),
        "connexion[flask], POST, one thread hop": (hopping, ORDER),
    }
    again = {
        "connexion[flask], GET, made once": (stock(), HEALTH),
        "connexion[flask], GET, two parameters, made once": (stock(), THING),
        "connexion[flask], POST, made once": (stock(), ORDER),
        "connexion[flask], GET, made once and one thread hop": (hopping, HEALTH),
        "connexion[flask], POST, made once and one thread hop": (hopping, ORDER),
    }
    yield from costs(apps, again).items()


def routed() -> Iterator[tuple[str, float]]:
    """Microseconds a request to the last operation of a contract of so many."""
    apps = {}
    for count in _ROUTES:
        paths = {f"/more/{number}": {"get": answering()} for number in range(count - 4)}
        last = Request("GET", f"/more/{count - 5}")
        apps[f"connexion[flask], GET, the last of {count:,}"] = (stock(contract(paths)), last)
    yield from costs(apps).items()


def answering(**more: object) -> dict[str, Any]:
    """An operation with a function of its own: connexion wants one for each."""
    name = f"health_{next(_numbers)}"
    setattr(upstream_stock, name, lambda: {"status": "ok"})
    return operation(name, **more)


def refused() -> Iterator[tuple[str, str]]:
    """What stock connexion[flask] answers to some requests."""
    check = f"{upstream_stock.__name__}.refuse"
    scheme = {"type": "http", "scheme": "bearer", "x-bearerInfoFunc": check}
    paths = {
        "/guarded": {"get": answering(security=[{"bearer": []}, {}])},
        "/two": {"get": answering(responses=_TWO)},
    }
    components = {"securitySchemes": {"bearer": scheme}}
    app = stock(contract(paths) | {"components": components})
    digits = b"1" * 5_000
    number = b'{"lines": [{"product": %s, "quantity": 1}]}' % digits
    for title, request in (
        ("`GET /names/a%0Ab`", Request("GET", "/names/a\nb")),
        ("integer of 5,000 digits in a path", Request("GET", f"/things/{digits.decode()}")),
        ("integer of 5,000 digits in JSON", replace(ORDER, body=number)),
        ("JSON that is not UTF-8", replace(ORDER, body=b'"\xff"')),
        ("JSON, 100,000 times `[`", replace(ORDER, body=b"[" * 100_000)),
        ("`application/json;charset=nope`", _sent_as(b"application/json;charset=nope")),
        ("`application/json; charset=utf-16`", _sent_as(b"application/json; charset=utf-16")),
        ("`Application/JSON` and an invalid body", _sent_as(b"Application/JSON", b"{}")),
        ("chunked JSON", replace(ORDER, chunked=True)),
        ("`hunter2` where a list has to be", replace(ORDER, body=b'{"lines": "hunter2"}')),
        ("`/two`: JSON, or `application/problem+json`", Request("GET", "/two")),
        ("`/guarded`: the check raises", Request("GET", "/guarded", headers=_BEARER)),
    ):
        status, body = asyncio.run(ask(app, request))
        told = json.loads(body)
        yield title, f"{status} {str(told.get('detail', told))[:40]}"


def _sent_as(media_type: bytes, body: bytes = ORDER.body) -> Request:
    return replace(ORDER, headers=((b"content-type", media_type),), body=body)


async def broken() -> list[int]:
    """What uvicorn answers when it has started with a contract that names no function."""
    config = uvicorn.Config(
        stock(contract({"/none": {"get": operation("none")}})), port=0, log_config=None
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it.
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def status() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    statuses = [await asyncio.to_thread(status) for _ in range(3)]
    server.should_exit = True
    await serving
    return statuses


async def blocked(kind: str) -> bool:
    """Whether a2wsgi answers while ten clients send or read slowly."""
    app: Any = flask.Flask("slow")
    app.add_url_rule("/health", view_func=upstream_stock.health)
    app.add_url_rule("/slow", methods=["POST"], view_func=_stream)
    bridge: Any = WSGIMiddleware(app)
    gate = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if kind == "send":
            await gate.wait()
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(_message: object) -> None:
        await gate.wait()

    slow = Request("POST", "/slow", body=b"x")
    clients = [asyncio.ensure_future(bridge(slow.scope(), receive, send)) for _ in range(_SLOW)]
    await asyncio.sleep(0.2)
    other = asyncio.ensure_future(ask(bridge, HEALTH))
    done, _ = await asyncio.wait([other], timeout=1)
    gate.set()
    await asyncio.gather(*clients, other)
    return not done


def _stream() -> flask.Response:
    return flask.Response(b"x" for _ in range(100 * len(flask.request.get_data())))


def main() -> None:
    """Print everything as Markdown."""
    logging.disable()
    warnings.simplefilter("ignore")
    say(f"{machine()}; {', '.join(f'{name} {version(name)}' for name in _PACKAGES)}")
    for rows in (spent(), routed()):
        say("\n| | CPU µs a request |\n|---|---|")
        for title, cost in rows:
            say(f"| {title} | {cost:,.0f} |")
    say("\n| request | answer |\n|---|---|")
    for title, answer in refused():
        say(f"| {title} | {answer} |")
    statuses = asyncio.run(broken())
    say(f"| `GET /health`, three times, but another operation has no function | {statuses} |")
    for kind in ("send", "read"):
        told = "not in a second" if asyncio.run(blocked(kind)) else "at once"
        say(f"| `GET /health` of a2wsgi while {_SLOW} clients {kind} slowly | {told} |")


if __name__ == "__main__":
    main()
