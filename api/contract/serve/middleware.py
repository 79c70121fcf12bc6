"""The request pipeline: match, authenticate, limit, decode, receive, validate, run, respond.

This is the only middleware of the application. It runs on the event loop and never blocks: work
that may block runs in a thread behind the bridge. Every error raised on the way becomes a problem
response here.
"""

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from api.contract.compile import parameters
from api.contract.compile.operations import READS, Operation
from api.contract.compile.schemas import Validator
from api.contract.engine_errors import (
    ClientGone,
    ContractViolation,
    InvalidToken,
    MethodNotAllowed,
    NoSuchResource,
    NotAcceptable,
    Unauthenticated,
)
from api.contract.ports import (
    Authenticate,
    Logger,
    Metrics,
    Problems,
    RateLimits,
    ReadFile,
    Settings,
    Wait,
)
from api.contract.serve import negotiation
from api.contract.serve.bodies import BodyReceiver
from api.contract.serve.bridge import Bridge
from api.contract.serve.cors import Cors
from api.contract.serve.forwarding import Forwarding
from api.contract.serve.pagination import Cursors
from api.contract.serve.request import (
    Answer,
    HeaderList,
    Next,
    Request,
    Span,
    Stretch,
    read_fields,
    request_id,
    trace_id,
)
from api.contract.serve.routing import Resource, Router
from api.contract.serve.verification import Verifier

_PIECE = 256 * 1024
"""Bytes of a file that are read and sent at once."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the engine, assembled by `make_asgi`."""

    router: Router
    forwarding: Forwarding
    authenticators: Mapping[str, Authenticate]
    rate_limiter: RateLimits
    cursors: Cursors
    cors: Cors
    bridge: Bridge
    can_glance: bool
    waits: Mapping[str, Wait]
    readers: Mapping[str, ReadFile]
    problems: Problems
    verifier: Verifier
    logger: Logger
    metrics: Metrics
    settings: Settings
    start_span: Callable[[Request], Span] | None
    start_up: Callable[[], Awaitable[None]]
    shut_down: Callable[[], Awaitable[None]]
    request_id: Validator


class Engine:
    """The ASGI application that serves the contract; `dispatch` leads to Flask."""

    def __init__(self, dispatch: Next, parts: Parts) -> None:
        self._dispatch = dispatch
        self._parts = parts
        self._receiver = BodyReceiver(parts.bridge, parts.readers, parts.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an HTTP request, or the events of the server's lifespan."""
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
        finally:
            if request.form is not None:
                request.form.close()
        if request.returnable:
            await self._parts.rate_limiter.give_back(request, answer.status)
        await send(start)
        head = request.method == "HEAD"
        if answer.stretch is not None and not head:
            await self._send_file(request, answer.stretch, send)
        else:
            await send({"type": "http.response.body", "body": b"" if head else answer.body})
        self._log(request, answer)

    async def _send_file(self, request: Request, stretch: Stretch, send: Send) -> None:
        """Send bytes of a file. A slow client holds one piece in memory, but no thread."""
        place, end = stretch.start, stretch.start + stretch.length
        while place < end:
            length = min(_PIECE, end - place)
            try:
                run = self._parts.bridge.run
                piece = await run(READS, "files", stretch.source.read, place, length)
            except Exception as error:  # noqa: BLE001 - the response has started.
                # The server closes the connection of an incomplete response, so the client notices.
                self._problem(request, error)
                return
            place += length
            await send({"type": "http.response.body", "body": piece, "more_body": place < end})

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
        request.trace_id = trace_id(request.fields.get("traceparent"))
        if parts.start_span is not None:
            request.span = parts.start_span(request)
            request.trace_id = request.span.trace_id
        origin = parts.forwarding.origin(request.client_address, request.fields)
        request.client_address, request.base_url = origin.client_address, origin.base_url
        if (request.method, request.raw_path) == ("OPTIONS", b"*"):
            # The server as a whole (RFC 9110, section 9.3.7).
            return Answer(204, [("Allow", parts.router.allow)])
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
            patch = resource.operations.get("PATCH")
            if patch is not None and patch.body is not None:
                headers.append(("Accept-Patch", ", ".join(patch.body.patches)))
            return Answer(204, headers + parts.cors.preflight(request, resource))
        operation = _operation(resource, request.method)
        request.operation = operation
        await self._admit(request, operation)
        self._decode(request, operation)
        await self._receiver.receive(request, operation, receive)
        if operation.required_scopes and request.caller:
            operation.require_scopes(request.caller.scopes, request.body)
        for required in operation.required_sessions:
            signed_in_at = request.caller.signed_in_at if request.caller else None
            required.check(signed_in_at, request.body)
        if (operation.body or operation.form) and operation.rate_limits:
            await parts.rate_limiter.count(request, operation, with_body=True)
        await self._receiver.read_files(request, operation)
        return await self._call(request, operation)

    async def _call(self, request: Request, operation: Operation) -> Answer:
        if operation.wait is not None:
            await self._parts.waits[operation.wait](request)
            # The caller's access may have ended meanwhile.
            await self._authenticate(request, operation)
        pool = operation.pool_for(request.body)
        dispatch = self._dispatch if request.span is None else request.span.handle(self._dispatch)
        if (pool, operation.transaction) == (READS, "statement") and self._parts.can_glance:
            # One quick statement costs less than a switch to a thread and back.
            request.at_once = True
            with suppress(BlockingIOError):
                return dispatch(request)
            request.at_once = False
        return await self._parts.bridge.run(pool, operation.tag, dispatch, request)

    async def _admit(self, request: Request, operation: Operation) -> None:
        """Authenticate the caller, check scopes, and count the request against limits."""
        await self._authenticate(request, operation)
        if operation.rate_limits:
            await self._parts.rate_limiter.count(request, operation, with_body=False)

    async def _authenticate(self, request: Request, operation: Operation) -> None:
        security = operation.security
        if security is not None:
            credentials = request.fields.get(security.field)
            if credentials is not None or not operation.anonymous:
                authenticate = self._parts.authenticators[security.scheme]
                try:
                    request.caller = await authenticate(request, credentials)
                except InvalidToken:
                    raise
                except Unauthenticated:
                    # Credentials of another scheme are not for this service: a browser sends those
                    # of a proxy in front of it with every request.
                    if not operation.anonymous:
                        raise
                else:
                    operation.require_scopes(request.caller.scopes)

    def _decode(self, request: Request, operation: Operation) -> None:
        """Negotiate the media type, and decode the query and headers."""
        request.media_type = _negotiate(operation, request.fields.get("accept", ""))
        request.header_values = parameters.decode_headers(operation.headers, request.fields)
        request.query_values = operation.query.decode(request.query_string)
        cursor = request.query_values.get("cursor")
        if operation.is_page and isinstance(cursor, str):
            request.position = self._parts.cursors.decode(operation.id, request.filters, cursor)

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
                **request.ids,
                operation=request.operation.id if request.operation else None,
                exc_info=error,
            )
        elif error.__cause__ is not None:
            # A refusal that is not a bug but has a cause points to a failure that only the
            # operator can fix.
            cause = getattr(error.__cause__, "orig", None) or error.__cause__
            self._parts.logger.warning(
                "dependency failed",
                **request.ids,
                cause=f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}",
            )
        return self._parts.problems.answer(error, request.id)

    def _finish(self, request: Request, answer: Answer) -> Answer:
        """Add the headers that every response has."""
        headers = [*answer.headers, *request.headers, ("X-Request-ID", request.id)]
        headers += self._parts.cors.headers(request) + self._parts.cors.varies
        varies = [value for name, value in headers if name == "Vary"]
        if len(varies) > 1:
            headers = [each for each in headers if each[0] != "Vary"]
            headers.append(("Vary", ", ".join(varies)))
        if answer.status not in (204, 304):
            headers.append(("Content-Length", str(answer.length)))
        return Answer(answer.status, headers, answer.body, answer.stretch)

    def _check(self, request: Request, answer: Answer) -> None:
        """Check a response against the contract, as often as the settings say.

        Raises:
            ContractViolation: the response breaks the contract, and this is not production.
        """
        parts = self._parts
        if random.random() >= parts.settings.response_check_sample:  # noqa: S311 - a sample, not a secret.
            return
        mismatch = parts.verifier.mismatch(request.operation, answer)
        if mismatch is None:
            return
        operation = request.operation.id if request.operation else "unmatched"
        parts.metrics.count_violation(operation)
        violation = ContractViolation(f"{operation}: {mismatch}")
        if parts.settings.app_env != "production":
            raise violation
        parts.logger.error("contract violated", **request.ids, fault=str(violation))

    def _log(self, request: Request, answer: Answer | None) -> None:
        """Log the request; without a response, the client had disconnected."""
        seconds = time.perf_counter() - request.started
        operation = request.operation.id if request.operation else "unmatched"
        if answer is not None:
            self._parts.metrics.count_request(operation, answer.status, seconds)
        if request.span is not None:
            request.span.end(request, answer.status if answer else None)
        quiet = request.operation is not None and request.operation.is_quiet
        log = self._parts.logger.debug if quiet else self._parts.logger.info
        log(
            "request",
            **request.ids,
            operation=operation,
            method=request.method,
            status=answer.status if answer else None,
            milliseconds=round(seconds * 1000, 2),
            caller=request.caller.id if request.caller else None,
            address=request.client_address,
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._parts.start_up()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._parts.shut_down()
        await send({"type": "lifespan.shutdown.complete"})


def _start(answer: Answer) -> Message:
    """Return the message that starts a response.

    Raises:
        ContractViolation: a header value contains a line break, which would start another header.
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
