"""The walk of a request: match, authenticate, limit, decode, receive, validate, run, answer.

This is the only middleware of the application. It works on the event loop and never blocks: what
may block runs in a thread behind the bridge. Whatever is raised on the way becomes a problem here.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from api.contract import negotiation, parameters
from api.contract.bodies import Budget, read_json, receive_body
from api.contract.bridge import Bridge
from api.contract.cors import Cors
from api.contract.errors import (
    ClientGone,
    ContractViolation,
    InsufficientScope,
    MethodNotAllowed,
    NoSuchResource,
    NotAcceptable,
)
from api.contract.forwarding import Forwarding
from api.contract.operations import Body, Operation
from api.contract.pagination import Cursors
from api.contract.rate_limits import RateLimiter
from api.contract.request import Answer, HeaderList, Next, Request, read_fields, request_id
from api.contract.routing import Resource, Router
from api.contract.schemas import Validator
from api.contract.verification import Verifier
from api.logs import Logger
from api.metrics import Metrics
from api.problems import Problems
from api.security import Authenticator
from api.settings import Settings
from api.upkeep import Upkeep
from models.errors import DomainError

_BODIES = 8
"""Bodies of the largest size that may be on their way at once."""
_LARGE_BODY = 64 * 1024
"""Bytes above which a body is parsed in a thread, to keep the event loop free."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the engine is made of; `create_app` puts it together."""

    router: Router
    forwarding: Forwarding
    authenticator: Authenticator
    rate_limiter: RateLimiter
    cursors: Cursors
    cors: Cors
    bridge: Bridge
    problems: Problems
    verifier: Verifier
    logger: Logger
    metrics: Metrics
    settings: Settings
    upkeep: tuple[Upkeep, ...]
    close: Callable[[], Awaitable[None]]
    request_id: Validator


class Engine:
    """The ASGI application that runs the contract; `dispatch` is Flask behind it."""

    def __init__(self, dispatch: Next, parts: Parts) -> None:
        self._dispatch = dispatch
        self._parts = parts
        self._budget = Budget(_BODIES * parts.settings.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or follow the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        request = self._begin(scope)
        try:
            answer = self._finish(request, await self._answer(request, scope, receive))
            self._check(request, answer)
            start = _start(answer)
        except ClientGone:
            self._log(request, None)
            return
        except Exception as error:  # noqa: BLE001 - the one place where every error ends.
            answer = self._refusal(request, error)
            start = _start(answer)
        await send(start)
        head = request.method == "HEAD"
        await send({"type": "http.response.body", "body": b"" if head else answer.body})
        self._log(request, answer)

    def _begin(self, scope: Scope) -> Request:
        return Request(
            method=scope["method"],
            raw_path=scope["raw_path"],
            query_string=scope["query_string"],
            fields={},
            id=request_id(scope, self._parts.request_id),
            started=time.perf_counter(),
            client_address=scope["client"][0] if scope.get("client") else "",
            base_url="",
        )

    async def _answer(self, request: Request, scope: Scope, receive: Receive) -> Answer:
        parts = self._parts
        request.fields = read_fields(scope["headers"])
        origin = parts.forwarding.origin(request.client_address, request.fields)
        request.client_address, request.base_url = origin.client_address, origin.base_url
        match = parts.router.match(request.raw_path)
        if match is None:
            raise NoSuchResource
        resource = match.resource
        values = parameters.decode_path(resource.path_parameters, match.values)
        if values is None:
            raise NoSuchResource
        request.path_values = values
        if request.method == "OPTIONS":
            headers: HeaderList = [("Allow", resource.allow)]
            return Answer(204, headers + parts.cors.preflight(request, resource))
        operation = _operation(resource, request.method)
        request.operation = operation
        await self._admit(request, operation)
        self._decode(request, operation)
        if operation.body is not None:
            await self._receive(request, operation, operation.body, receive)
        try:
            answer = await parts.bridge.run(operation.pool, self._dispatch, request)
        except DomainError as refusal:
            if refusal.proves_identity:
                await parts.rate_limiter.remember(request, operation)
            raise
        await parts.rate_limiter.remember(request, operation)
        return answer

    async def _admit(self, request: Request, operation: Operation) -> None:
        """Find out who is asking, whether they may, and whether they asked too often."""
        authorization = request.fields.get("authorization")
        if operation.scopes is not None and (authorization is not None or not operation.anonymous):
            request.caller = caller = await self._parts.authenticator.authenticate(authorization)
            if not caller.scopes.issuperset(operation.scopes):
                raise InsufficientScope(operation.scopes)
        if operation.rate_limits:
            await self._parts.rate_limiter.count(request, operation, with_body=False)

    def _decode(self, request: Request, operation: Operation) -> None:
        """Choose the representation and read the query and the headers."""
        request.media_type = _negotiate(operation, request.fields.get("accept", ""))
        request.header_values = parameters.decode_headers(operation.headers, request.fields)
        request.query_values = operation.query.decode(request.query_string)
        cursor = request.query_values.get("cursor")
        if operation.is_page and isinstance(cursor, str):
            request.position = self._parts.cursors.decode(operation.id, request.filters, cursor)

    async def _receive(
        self, request: Request, operation: Operation, body: Body, receive: Receive
    ) -> None:
        parts = self._parts
        text = await receive_body(
            receive,
            request.fields,
            limit=parts.settings.max_body_bytes,
            deadline=parts.settings.body_timeout,
            budget=self._budget,
        )
        pool = "requests" if len(text) > _LARGE_BODY else "inline"
        request.body = await parts.bridge.run(pool, read_json, body, request.fields, text)
        if operation.rate_limits:
            await parts.rate_limiter.count(request, operation, with_body=True)

    def _refusal(self, request: Request, error: Exception) -> Answer:
        answer = self._finish(request, self._problem(request, error))
        try:
            self._check(request, answer)
        except ContractViolation as violation:
            answer = self._finish(request, self._problem(request, violation))
        return answer

    def _problem(self, request: Request, error: Exception) -> Answer:
        if self._parts.problems.is_bug(error):
            self._parts.logger.error(
                "request failed",
                request_id=request.id,
                operation=request.operation.id if request.operation else None,
                exc_info=error,
            )
        elif error.__cause__ is not None:
            # Behind a refusal that is no bug stands something that only the operator can mend.
            cause = getattr(error.__cause__, "orig", None) or error.__cause__
            self._parts.logger.warning(
                "dependency failed",
                request_id=request.id,
                cause=f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}",
            )
        return self._parts.problems.answer(error, request.id)

    def _finish(self, request: Request, answer: Answer) -> Answer:
        """Add what every answer carries."""
        headers = [*answer.headers, *request.headers, ("X-Request-ID", request.id)]
        headers += self._parts.cors.headers(request)
        if answer.status not in (204, 304):
            headers.append(("Content-Length", str(len(answer.body))))
        return Answer(answer.status, headers, answer.body)

    def _check(self, request: Request, answer: Answer) -> None:
        """Hold the answer against the contract, as often as the settings say.

        Raises:
            ContractViolation: it breaks the contract, and the settings say that this is an error.
        """
        parts = self._parts
        if random.random() >= parts.settings.response_check_sample:  # noqa: S311 - a sample, not a secret.
            return
        fault = parts.verifier.fault(request.operation, answer)
        if fault is None:
            return
        operation = request.operation.id if request.operation else "unmatched"
        parts.metrics.count_violation(operation)
        violation = ContractViolation(f"{operation}: {fault}")
        if parts.settings.app_env != "production":
            raise violation
        parts.logger.error("contract violated", request_id=request.id, fault=str(violation))

    def _log(self, request: Request, answer: Answer | None) -> None:
        """Write the request's line; without an answer the client had gone."""
        seconds = time.perf_counter() - request.started
        operation = request.operation.id if request.operation else "unmatched"
        if answer is not None:
            self._parts.metrics.count_request(operation, answer.status, seconds)
        self._parts.logger.info(
            "request",
            request_id=request.id,
            operation=operation,
            method=request.method,
            status=answer.status if answer else None,
            milliseconds=round(seconds * 1000, 2),
            caller=request.caller.user_id if request.caller else None,
            address=request.client_address,
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        for upkeep in self._parts.upkeep:
            upkeep.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for upkeep in self._parts.upkeep:
            upkeep.stop()
        await self._parts.close()
        await send({"type": "lifespan.shutdown.complete"})


def _start(answer: Answer) -> Message:
    """Make the message that begins an answer.

    Raises:
        ContractViolation: a header's value ends its line and would begin another.
    """
    values = "".join([value for _, value in answer.headers])
    if "\n" in values or "\r" in values:
        raise ContractViolation("a header of the answer has a line break")
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


def _operation(resource: Resource, method: str) -> Operation:
    try:
        return resource.operations["GET" if method == "HEAD" else method]
    except KeyError:
        raise MethodNotAllowed(resource.allow) from None


def _negotiate(operation: Operation, accept: str) -> str:
    available = operation.success.media_types
    if not available:
        return ""
    chosen = negotiation.choose(accept, available)
    if chosen is None:
        raise NotAcceptable(available)
    return chosen
