"""One operation's call, compiled: arguments by name, one transaction, an answer before the commit.

A handler says what it needs by the names of its arguments. Whatever the contract declares for the
operation is there under its own name; so are `session`, `caller`, `body`, `if_match`, `origin`,
and the services that `create_app` made. A handler that only shows rows asks for less than a
`session`: for a `connection` if one statement does it, for a `snapshot` if its statements have to
see the same moment.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from api.contract import conditional
from api.contract.content import Content
from api.contract.errors import ContractViolation
from api.contract.operations import HTML_MEDIA_TYPE, JSON_MEDIA_TYPE, Link, Operation
from api.contract.pagination import Cursors, next_link
from api.contract.request import Answer, HeaderList, Request
from api.idempotency import Claim, Idempotency
from api.security import Caller
from models.audit_event import Origin
from models.database import Database
from models.errors import DomainError
from models.page import Page

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

_MAX_USER_AGENT = 200
_SNAPSHOT = "snapshot"
_ROWS = ("connection", _SNAPSHOT)
"""Arguments of handlers that read rows, without the bookkeeping of a session."""

Handler: TypeAlias = Callable[..., object]
Source: TypeAlias = "Session | Connection | None"
Argument: TypeAlias = Callable[[Request, Source], object]
Render: TypeAlias = Callable[[str, object], str]


class Recheck(Protocol):
    """Insists, in the transaction of a write, that the caller still is who they were."""

    def __call__(self, session: "Session", caller: Caller, *, hold: bool) -> Caller:
        """Say what the caller is now; with `hold` the account stays so until the transaction ends.

        Raises:
            InvalidToken: the token was ended meanwhile.
        """


class Call:
    """Runs an operation's handler for a request and makes the answer."""

    def __init__(
        self,
        operation: Operation,
        handler: Handler,
        *,
        services: Mapping[str, object],
        database: Database,
        cursors: Cursors,
        render: Render,
        recheck: Recheck,
        idempotency: Idempotency,
    ) -> None:
        if operation.takes_idempotency_key:
            _require_caller_and_write(operation)
        self._operation = operation
        self._handler = handler
        self._arguments = tuple(
            (name, _argument(operation, name, services))
            for name in inspect.signature(handler).parameters
        )
        asked = {name for name, _ in self._arguments}
        self._reads_rows = not asked.isdisjoint(_ROWS)
        self._of_one_moment = _SNAPSHOT in asked
        self._database = database
        self._cursors = cursors
        self._render = render
        self._recheck = recheck
        self._idempotency = idempotency
        self.__name__ = operation.id

    def __call__(self, request: Request) -> Answer:
        """Run the handler, in the transaction that the contract says."""
        kind = self._operation.transaction
        if kind == "none":
            return self._ask(request, None)
        if self._reads_rows:
            work = partial(self._ask, request)
            return self._database.read(work, snapshot=self._of_one_moment)
        claim = Claim.of(request) if self._operation.takes_idempotency_key else None
        run = partial(self._run, request, claim)
        with self._idempotency.alone(claim) if claim else nullcontext():
            outcome = self._database.transact(run, write=kind != "read", late=kind == "late-write")
        if isinstance(outcome, DomainError):
            raise outcome
        return outcome

    def _ask(self, request: Request, connection: "Connection | None") -> Answer:
        return self._answer(request, self._handle(request, connection))

    def _run(
        self, request: Request, claim: Claim | None, session: "Session"
    ) -> Answer | DomainError:
        """Do the work in a transaction; a refusal that is returned does not roll it back."""
        try:
            return self._do(request, claim, session)
        except DomainError as refusal:
            if not refusal.keeps_changes:
                raise
            return refusal

    def _do(self, request: Request, claim: Claim | None, session: "Session") -> Answer:
        if request.caller and self._operation.transaction != "read":
            # Since the token was checked the body came and a thread got free, which the client
            # can draw out; what it changes now must still be its to change. An answer that is
            # kept must not outlive the erasure of an account that happens at the same moment.
            request.caller = self._recheck(session, request.caller, hold=claim is not None)
        if claim is not None and (known := self._idempotency.replay(session, claim)) is not None:
            return known
        result = self._handle(request, session)
        # The answer is made inside the transaction, from the ids and versions that the database
        # gave; if it cannot be made nothing is stored.
        session.flush()
        answer = self._answer(request, result)
        if claim is not None:
            self._idempotency.remember(session, claim, answer, owner=_owner(result))
        return answer

    def _handle(self, request: Request, source: "Source") -> object:
        arguments = {name: get(request, source) for name, get in self._arguments}
        return self._handler(**arguments)

    def _answer(self, request: Request, result: object) -> Answer:
        success = self._operation.success
        headers: HeaderList = list(success.fixed_headers.items())
        version = getattr(result, "version", None)
        if isinstance(result, Page):
            result = self._page(request, result, headers)
        if success.location is not None:
            headers.append(("Location", request.base_url + _path(success.location, result)))
        body, media_type = self._body(request, result, headers)
        if media_type:
            headers.append(("Content-Type", media_type))
        if len(success.media_types) > 1 and not isinstance(result, Content):
            headers.append(("Vary", "Accept"))
        if self._operation.has_etag:
            tag = conditional.entity_tag(version, body)
            headers.append(("ETag", tag))
            if request.method in ("GET", "HEAD") and conditional.matches_none(
                request.fields.get("if-none-match"), tag
            ):
                kept = [(name, value) for name, value in headers if name != "Content-Type"]
                return Answer(304, kept)
        return Answer(success.status, headers, body)

    def _body(
        self, request: Request, result: object, headers: HeaderList
    ) -> tuple[bytes, str | None]:
        success = self._operation.success
        if isinstance(result, Content):
            headers.extend(result.headers.items())
            return result.body, result.media_type
        if request.media_type == HTML_MEDIA_TYPE:
            page = self._render(f"{self._operation.id}.html", result)
            return page.encode(), f"{HTML_MEDIA_TYPE}; charset=utf-8"
        if success.serialize is not None:
            return success.serialize(result), JSON_MEDIA_TYPE
        if result is not None:
            raise ContractViolation(f"{self._operation.id} answers what no schema declares")
        return b"", None

    def _page(self, request: Request, page: Page[Any], headers: HeaderList) -> object:
        cursor = None
        if page.next_key is not None:
            cursor = self._cursors.encode(self._operation.id, request.filters, page.next_key)
            url = request.base_url + self._operation.path.format(**request.path_values)
            headers.append(("Link", next_link(url, request.query_values, cursor)))
        return {"items": page.items, "next_cursor": cursor}


def _owner(result: object) -> int | None:
    """Tell whose account a thing belongs to, if it says so."""
    owner = getattr(result, "user_id", None)
    return owner if isinstance(owner, int) else None


def _require_caller_and_write(operation: Operation) -> None:
    if operation.scopes is None or operation.anonymous or "write" not in operation.transaction:
        reason = "takes an idempotency key, and does not write for a caller who is known"
        raise ContractViolation(f"{operation.id} {reason}")


def _argument(operation: Operation, name: str, services: Mapping[str, object]) -> Argument:
    """Return how to get one argument of a handler; an unknown name stops the start."""
    getters: dict[str, Argument] = {
        "caller": lambda request, _: request.caller,
        "body": lambda request, _: request.body,
        "origin": lambda request, _: _origin(request),
    }
    if operation.transaction != "none":
        getters["session"] = lambda _, session: session
    if operation.transaction == "read":
        getters |= dict.fromkeys(_ROWS, lambda _, connection: connection)
    if operation.is_page:
        getters["cursor"] = lambda request, _: request.position
    if "if-match" in operation.headers:
        getters["if_match"] = lambda request, _: conditional.acceptable_versions(
            request.fields.get("if-match")
        )
    for service, value in services.items():
        getters[service] = lambda _request, _session, value=value: value  # type: ignore[misc]  # mypy infers no type for a lambda's default.
    declared = {
        **{each.argument: "header_values" for each in operation.headers.values()},
        **{each.argument: "query_values" for each in operation.query.by_name.values()},
        **{each.argument: "path_values" for each in operation.path_parameters},
    }
    if name in declared and name in services:
        raise ContractViolation(f"{operation.id} declares {name}, which is a service's name")
    for argument, place in declared.items():
        getters.setdefault(argument, _from(place, argument))
    try:
        return getters[name]
    except KeyError:
        raise ContractViolation(
            f"the handler of {operation.id} asks for {name!r}, which nothing provides"
        ) from None


def _origin(request: Request) -> Origin:
    agent = "".join(filter(str.isprintable, request.fields.get("user-agent", "")))
    return Origin(
        address=request.client_address or None,
        request_id=request.id,
        user_agent=agent[:_MAX_USER_AGENT] or None,
        actor_id=request.caller.user_id if request.caller else None,
        token_id=request.caller.token_id if request.caller else None,
    )


def _from(place: str, name: str) -> Argument:
    def get(request: Request, _source: Source) -> object:
        values: Mapping[str, object] = getattr(request, place)
        return values[name]

    return get


def _path(link: Link, result: object) -> str:
    values = {name: getattr(result, attribute) for name, attribute in link.attributes.items()}
    return link.path.format(**values)
