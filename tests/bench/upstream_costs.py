"""What stock connexion[flask] and a2wsgi spend on a request, and what is left if they do less.

A figure is the processor time of all threads of the process, in microseconds a request, the least
of rounds that take turns.
"""

import asyncio
import contextlib
import copy
import functools
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeAlias
from unittest import mock

from a2wsgi.wsgi import build_environ
from connexion.apps.flask import FlaskOperation
from connexion.decorators.main import WSGIDecorator
from connexion.utils import is_null, is_nullable
from connexion.validators.json import JSONRequestBodyValidator
from connexion.validators.parameter import ParameterValidator
from jsonschema import Draft4Validator, ValidationError

from tests.bench.upstream_stock import AsgiApp, Request, ask

ROUNDS, REQUESTS, WORKERS = 9, 150, 10

Asked: TypeAlias = Mapping[str, tuple[AsgiApp, Request]]
"""Applications by title, each with what it is asked."""
WsgiApp: TypeAlias = Callable[..., Iterable[bytes]]


def costs(apps: Asked, with_kept: Asked | None = None) -> Mapping[str, float]:
    """Microseconds a request, by title; for `with_kept` see `kept`."""
    taken: dict[str, list[float]] = {}
    with asyncio.Runner() as runner:
        for turn in range(-1, ROUNDS):
            for patch, asked in ((contextlib.nullcontext(), apps), (kept(), with_kept or {})):
                with patch:
                    for title, (app, request) in asked.items():
                        one = _cost(runner, app, request)
                        # The first turn is for caches to fill.
                        if turn >= 0:
                            taken.setdefault(title, []).append(one)
    return {title: min(each) for title, each in taken.items()}


def _cost(runner: asyncio.Runner, app: AsgiApp, request: Request) -> float:
    async def repeat() -> set[int]:
        return {(await ask(app, request))[0] for _ in range(REQUESTS)}

    begun = time.process_time()
    statuses = runner.run(repeat())
    spent = time.process_time() - begun
    if statuses != {200}:
        raise RuntimeError(f"statuses {statuses} of {request.path}")
    return spent / REQUESTS * 1e6


class OneHop:
    """A WSGI application in ASGI: the body is read first, a thread runs, then all is sent.

    Without `threads` the application runs on the event loop, which tells what it costs by itself.
    """

    def __init__(self, app: WsgiApp, *, threads: bool = True) -> None:
        self.app = app
        self._threads = ThreadPoolExecutor(WORKERS) if threads else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's.
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if self._threads is None:
            status, headers, answer = self._run(scope, body)
        else:
            run = functools.partial(copy_context().run, self._run, scope, body)
            loop = asyncio.get_running_loop()
            status, headers, answer = await loop.run_in_executor(self._threads, run)
        lines = [(name.lower().encode("latin1"), each.encode("latin1")) for name, each in headers]
        await send({"type": "http.response.start", "status": int(status[:3]), "headers": lines})
        await send({"type": "http.response.body", "body": answer})

    def _run(self, scope: Any, body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:  # noqa: ANN401 - As above.
        environ: Any = build_environ(scope, io.BytesIO(body))  # type: ignore[arg-type]  # It reads like one.
        started: list[tuple[str, list[tuple[str, str]]]] = []
        chunks = self.app(
            environ, lambda status, headers, _=None: started.append((status, headers))
        )
        answer = b"".join(chunks)
        getattr(chunks, "close", lambda: None)()
        return *started[-1], answer


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While it lasts, connexion makes what depends on the contract alone once."""
    validators: dict[int, tuple[Any, Any]] = {}

    def validator_of(parameter: dict[str, Any]) -> Any:  # noqa: ANN401 - jsonschema has no types here.
        schema = copy.deepcopy(parameter.get("schema", parameter))
        return Draft4Validator(schema, format_checker=Draft4Validator.FORMAT_CHECKER)

    def validate(kind: str, value: Any, param: dict[str, Any], _name: str = "") -> str | None:  # noqa: ANN401 - As above.
        if is_nullable(param) and is_null(value):
            return None
        if value is None:
            return f"Missing {kind} parameter '{param['name']}'" if param.get("required") else None
        if id(param) not in validators:
            validators[id(param)] = (validator_of(param), param)
        try:
            validators[id(param)][0].validate(value)
        except ValidationError as error:
            return str(error)
        return None

    def decorate(self: Any, function: Any) -> Any:  # noqa: ANN401 - connexion has no types.
        decorated = self.decorate(function)

        @functools.wraps(function)
        def wrapper(*_arguments: object, **_named: object) -> object:
            return decorated(self.framework.get_request(uri_parser=self.uri_parser))

        return wrapper

    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (FlaskOperation, "fn", _once(FlaskOperation.fn, lambda owner: owner)),
            (WSGIDecorator, "__call__", decorate),
            (ParameterValidator, "validate_parameter", staticmethod(validate)),
            (
                JSONRequestBodyValidator,
                "_validator",
                _once(JSONRequestBodyValidator._validator, lambda owner: owner._schema),  # noqa: SLF001 - What it is about.
            ),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _once(made: Any, key: Callable[[Any], object]) -> property:  # noqa: ANN401 - connexion has no types.
    """A property whose value is made once for each key."""
    values: dict[int, tuple[Any, object]] = {}

    def get(owner: Any) -> Any:  # noqa: ANN401 - As above.
        if id(key(owner)) not in values:
            values[id(key(owner))] = (made.fget(owner), key(owner))
        return values[id(key(owner))][0]

    return property(get)
