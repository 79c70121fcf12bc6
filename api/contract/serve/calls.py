"""Compiled calls: a handler's arguments by name, one transaction, and a response before the commit.

A handler names what it needs as arguments: any parameter that the contract declares for the
operation, `caller`, `body`, `cursor`, `if_match`, and whatever the application provides
(`Ports.services` and `Ports.from_request`). A handler that writes takes a `session`, and one that
only reads takes a `reader`; the operation's `transaction` decides which of them is available.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from email.utils import format_datetime
from functools import partial
from types import MappingProxyType
from typing import TypeAlias, cast

from api.contract.compile.operations import HTML_MEDIA_TYPE, REDIRECT, Link, Operation
from api.contract.compile.parameters import Parameter, Value
from api.contract.compile.request_bodies import JSON_MEDIA_TYPE
from api.contract.engine_errors import ContractViolation, PreconditionFailed
from api.contract.ports import (
    Claim,
    Content,
    FromRequest,
    KeptAnswers,
    Page,
    Reader,
    Recheck,
    Render,
    Session,
    Transactions,
)
from api.contract.serve import conditional
from api.contract.serve.pagination import Cursors, next_link
from api.contract.serve.request import Answer, HeaderList, Request, Source, Stretch

IF_MATCH = "if-match"
_PARTIAL = 206
_READING = ("read", "statement")
"""The transactions of handlers that take a `reader`."""
_ONLY_WITH_CONTENT = ("Content-Type", "Link", "Deprecation", "Sunset")
"""Headers that a 304 leaves out."""

Handler: TypeAlias = Callable[..., object]
Argument: TypeAlias = Callable[[Request, Session | Reader | None], object]


class Call:
    """Runs an operation's handler for a request and returns the response."""

    def __init__(
        self,
        operation: Operation,
        handler: Handler,
        *,
        services: Mapping[str, object],
        database: Transactions,
        cursors: Cursors,
        render: Render | None,
        recheck: Recheck,
        idempotency: KeptAnswers | None,
        from_request: Mapping[str, FromRequest] = MappingProxyType({}),
    ) -> None:
        if operation.takes_idempotency_key:
            _require_caller_and_write(operation)
            if idempotency is None:
                raise ContractViolation(
                    f"{operation.id} takes an Idempotency-Key; set Ports.idempotency"
                )
        if render is None and HTML_MEDIA_TYPE in operation.success.media_types:
            raise ContractViolation(f"{operation.id} sends {HTML_MEDIA_TYPE}; set Ports.render")
        self._operation = operation
        self._handler = handler
        self._is_page = operation.is_page
        self._arguments = tuple(
            (name, _argument(operation, name, services, from_request))
            for name in inspect.signature(handler).parameters
        )
        asked = {name for name, _ in self._arguments}
        if operation.method != "GET" and IF_MATCH in operation.headers and "if_match" not in asked:
            reason = "takes If-Match; its handler must ask for if_match"
            raise ContractViolation(f"{operation.id} {reason}")
        self._database = database
        self._cursors = cursors
        self._render = render
        self._recheck = recheck
        self._kept = idempotency if operation.takes_idempotency_key else None
        self._varies = _varies(operation)
        self.__name__ = operation.id

    def __call__(self, request: Request) -> Answer:
        """Run the handler in the kind of transaction that the contract declares."""
        kind = self._operation.transaction
        if kind == "none":
            return self._respond(request, None)
        if request.at_once:
            return self._database.glance(partial(self._respond, request))
        if kind in _READING:
            # Callers must see their own changes. Shared caches may serve everybody else anyway.
            staleness = 0.0 if request.caller else self._operation.success.staleness
            work, single = partial(self._respond, request), kind == "statement"
            return self._database.read(work, single=single, staleness=staleness)
        kept = self._kept
        claim = None if kept is None else kept.claim(request)
        attempt = partial(self._try, request, claim)
        with nullcontext() if kept is None or claim is None else kept.alone(claim):
            outcome = self._database.transact(attempt, late=kind == "late-write", brief=True)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _respond(self, request: Request, reader: Reader | None) -> Answer:
        return self._write_answer(request, self._call_handler(request, reader))

    def _try(self, request: Request, claim: Claim | None, session: Session) -> Answer | Exception:
        """Run the work in a transaction; an error that is returned does not roll it back."""
        try:
            return self._transact(request, claim, session)
        except Exception as refusal:
            if not getattr(refusal, "keeps_changes", False):
                raise
            return refusal

    def _transact(self, request: Request, claim: Claim | None, session: Session) -> Answer:
        kept = None if claim is None else self._kept
        if request.caller:
            # Receiving the body and waiting for a thread take time after the token check, which a
            # client can prolong. The caller must therefore still have permission now. A kept
            # response must also not outlive an account that is erased at the same moment.
            recheck = self._recheck(session, request.caller, hold=claim is not None)
            # The check is awaited only after this call, so the database receives both together.
            replay = None if kept is None else kept.look_up(session, claim)
            request.caller = recheck()
            self._operation.require_scopes(request.caller.scopes, request.body)
            if replay is not None and (known := replay(request)) is not None:
                return known
        result = self._call_handler(request, session)
        # The response is built inside the transaction, from the ids and versions that the database
        # assigned; if that fails, nothing is stored.
        session.flush()
        answer = self._write_answer(request, result)
        if kept is not None:
            kept.remember(session, claim, request, answer, result)
        return answer

    def _call_handler(self, request: Request, source: Session | Reader | None) -> object:
        arguments = {name: get(request, source) for name, get in self._arguments}
        return self._handler(**arguments)

    def _write_answer(self, request: Request, result: object) -> Answer:
        success = self._operation.success
        headers: HeaderList = list(success.fixed_headers.items())
        version = getattr(result, "version", None)
        if self._is_page:
            result = self._page(request, cast("Page", result), headers)
        if success.location is not None:
            headers.append(("Location", request.base_url + _path(success.location, result)))
        body, media_type = self._body(request, result, headers)
        if media_type:
            headers.append(("Content-Type", media_type))
        if self._varies and not isinstance(result, Content):
            headers.append(("Vary", self._varies))
        if success.caching is not None:
            headers.append(("Cache-Control", success.caching[request.caller is not None]))
        source = result.source if isinstance(result, Content) else None
        if source is not None:
            headers.append(("Last-Modified", format_datetime(source.modified, usegmt=True)))
        if self._operation.has_etag:
            tag = conditional.entity_tag(version, body) if source is None else f'"{source.tag}"'
            headers.append(("ETag", tag))
            if self._operation.method == "GET" and self._is_unchanged(request, tag, source):
                kept = [each for each in headers if each[0] not in _ONLY_WITH_CONTENT]
                return Answer(304, kept)
        if source is not None:
            return self._redirect(request, source) or self._write_file(request, source, headers)
        return Answer(success.status, headers, body)

    def _redirect(self, request: Request, source: Source) -> Answer | None:
        """Send the client to a store that serves the file itself; None if the service sends it."""
        declared = self._operation.responses.get(REDIRECT)
        location = None if declared is None else source.location(request.method)
        if declared is None or location is None:
            return None
        return Answer(REDIRECT, [*declared.fixed_headers.items(), ("Location", location)])

    def _write_file(self, request: Request, source: Source, headers: HeaderList) -> Answer:
        """Send a file, or the range of it that the request names.

        Raises:
            RangeNotSatisfiable: the range contains no bytes of the file.
        """
        fields, success = request.fields, self._operation.success
        wanted = None
        if _PARTIAL in self._operation.responses and request.method == "GET":
            # A range of another version would not fit the bytes that the client has.
            unchanged = [value for name, value in headers if name in ("ETag", "Last-Modified")]
            if fields.get("if-range") in (None, *unchanged):
                wanted = conditional.parse_range(fields.get("range"), source.size)
        if wanted is None:
            return Answer(success.status, headers, stretch=Stretch(source, 0, source.size))
        start, length = wanted
        content_range = f"bytes {start}-{start + length - 1}/{source.size}"
        headers.append(("Content-Range", content_range))
        return Answer(_PARTIAL, headers, stretch=Stretch(source, start, length))

    def _is_unchanged(self, request: Request, tag: str, source: Source | None) -> bool:
        """Evaluate the preconditions of a read, in their order (RFC 9110, section 13.2.2).

        Raises:
            PreconditionFailed: `If-Match` does not match the tag, or without it, the file was
                modified after `If-Unmodified-Since`.
        """
        fields, modified = request.fields, source.modified if source else None
        if_match, if_none_match = fields.get(IF_MATCH), fields.get("if-none-match")
        takes_tag = IF_MATCH in self._operation.headers
        if (takes_tag and not conditional.matches(if_match, tag)) or (
            if_match is None
            and conditional.is_modified(fields.get("if-unmodified-since"), modified)
        ):
            raise PreconditionFailed
        return conditional.matches_none(if_none_match, tag) or (
            if_none_match is None
            and conditional.is_modified(fields.get("if-modified-since"), modified) is False
        )

    def _body(
        self, request: Request, result: object, headers: HeaderList
    ) -> tuple[bytes, str | None]:
        success = self._operation.success
        if isinstance(result, Content):
            headers.extend(result.headers.items())
            return result.body, result.media_type
        if self._render is not None and request.media_type == HTML_MEDIA_TYPE:
            page = self._render(f"{self._operation.id}.html", result)
            return page.encode(), f"{HTML_MEDIA_TYPE}; charset=utf-8"
        if success.serialize is not None:
            return success.serialize(result), JSON_MEDIA_TYPE
        if result is not None:
            raise ContractViolation(f"{self._operation.id} returns an undeclared result")
        return b"", None

    def _page(self, request: Request, page: Page, headers: HeaderList) -> object:
        cursor = None
        if page.next_key is not None:
            cursor = self._cursors.encode(self._operation.id, request.filters, page.next_key)
            url = request.base_url + self._operation.path.format(**request.path_values)
            headers.append(("Link", next_link(url, request.query_values, cursor)))
        return {"items": page.items, "next_cursor": cursor}


def _require_caller_and_write(operation: Operation) -> None:
    if operation.scopes is None or operation.anonymous or "write" not in operation.transaction:
        reason = "takes an idempotency key but is not an authenticated write"
        raise ContractViolation(f"{operation.id} {reason}")


def _varies(operation: Operation) -> str:
    """Return the request headers that a success depends on, as in `Vary`."""
    names = ["Accept"] if len(operation.success.media_types) > 1 else []
    if operation.success.caching is not None and operation.security is not None:
        names.append(operation.security.header)
    return ", ".join(names)


def _argument(
    operation: Operation,
    name: str,
    services: Mapping[str, object],
    from_request: Mapping[str, FromRequest],
) -> Argument:
    """Return a getter for a handler's argument.

    Raises:
        ContractViolation: nothing provides an argument of this name.
    """
    getters: dict[str, Argument] = {
        "caller": lambda request, _: request.caller,
        "body": lambda request, _: request.body,
    }
    if operation.transaction != "none":
        source = "reader" if operation.transaction in _READING else "session"
        getters[source] = lambda _, opened: opened
    if operation.is_page:
        getters["cursor"] = lambda request, _: request.position
    if IF_MATCH in operation.headers:
        getters["if_match"] = lambda request, _: conditional.acceptable_versions(
            request.fields.get("if-match"), request.fields.get("if-none-match")
        )
    for service, value in services.items():
        getters[service] = lambda _request, _session, value=value: value  # type: ignore[misc]  # mypy infers no type for a lambda's default.
    for provided, make in from_request.items():
        getters[provided] = lambda request, _session, make=make: make(request)  # type: ignore[misc]  # as above.
    declared = {
        **{each.argument: ("header_values", each) for each in operation.headers.values()},
        **{each.argument: ("query_values", each) for each in operation.query.by_name.values()},
        **{each.argument: ("path_values", each) for each in operation.path_parameters},
    }
    if name in declared and (name in services or name in from_request):
        raise ContractViolation(f"{operation.id} declares {name}, which is a service's name")
    for argument, (place, parameter) in declared.items():
        getters.setdefault(argument, _from(place, parameter))
    try:
        return getters[name]
    except KeyError:
        raise ContractViolation(
            f"the handler of {operation.id} asks for {name!r}, which nothing provides"
        ) from None


def _from(place: str, parameter: Parameter) -> Argument:
    def get(request: Request, _source: Session | Reader | None) -> object:
        values: Mapping[str, Value] = getattr(request, place)
        return parameter.typed(values[parameter.argument])

    return get


def _path(link: Link, result: object) -> str:
    values = {name: getattr(result, attribute) for name, attribute in link.attributes.items()}
    return link.path.format(**values)
