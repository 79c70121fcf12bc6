"""Request bodies: received within limits, parsed as strict JSON and validated."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.types import Receive
from werkzeug.http import parse_options_header

from api.contract import strict_json
from api.contract.compile.operations import READS, Operation
from api.contract.compile.request_bodies import JSON_MEDIA_TYPE, Body, Form
from api.contract.engine_errors import (
    BodyTimeout,
    ClientGone,
    ContentTooLarge,
    InvalidBody,
    Overloaded,
    UnsupportedContentEncoding,
    UnsupportedMediaType,
    Violation,
)
from api.contract.ports import ReadFile, Settings
from api.contract.serve.bridge import INLINE, Bridge
from api.contract.serve.forms import FormReader, uploads
from api.contract.serve.rate_limits import network_of
from api.contract.serve.request import Request
from api.contract.strict_json import JSON

_LONGEST_MEDIA_TYPE = 256
"""Maximum length of a `Content-Type` with its parameters, in characters."""
# RFC 6838, section 4.2, and RFC 6839, section 3.1.
_JSON_SUFFIX = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*\+json", re.ASCII)
_BODIES, _BODIES_OF_A_CLIENT = 8, 2
"""Bodies of maximum size that may be in transit at once: in total, and from one client."""
_LARGE_BODY = 8 * 1024
"""Bytes above which parsing a body can take a millisecond and is done in a thread."""
_PIECE = 64 * 1024
"""Bytes of a form that are read at once, in a thread."""
_KIND = "bodies"
"""The kind of work of reading bodies."""
_UNTYPED = ("", "text/plain")
"""Media types of clients that do not say what they send."""


class Budget:
    """Memory for bodies in transit, in bytes, with a maximum share per client.

    Only bytes that have arrived are counted, not those that a client has announced.
    """

    def __init__(self, limit: int, share: int) -> None:
        self._left = limit
        self._share = share
        self._taken: dict[str, int] = {}

    def take(self, client: str, size: int) -> None:
        """Reserve bytes for a client.

        Raises:
            Overloaded: the client would exceed its share, or no memory is left.
        """
        taken = self._taken.get(client, 0) + size
        if taken > self._share:
            raise Overloaded("Too many bodies are arriving from this address; try again shortly.")
        if size > self._left:
            raise Overloaded("Too many bodies are arriving; try again shortly.")
        self._left -= size
        self._taken[client] = taken

    def give_back(self, client: str, size: int) -> None:
        """Release bytes that a client has reserved."""
        self._left += size
        self._taken[client] -= size
        if not self._taken[client]:
            del self._taken[client]


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits for one body: size in bytes, deadline in seconds, and the client's budget."""

    limit: int
    deadline: float
    budget: Budget
    client: str


async def receive_body(
    receive: Receive,
    fields: Mapping[str, str],
    allowance: Allowance,
    take: Callable[[bytes], Awaitable[None]],
) -> None:
    """Receive a body, and pass its bytes on as they arrive.

    Bytes are counted as they arrive, so that neither a declared length nor a chunked body can
    exceed the limit.

    Raises:
        ContentTooLarge: the body exceeds the limit; raised as soon as this is known.
        UnsupportedContentEncoding: the body is compressed.
        BodyTimeout: the body did not arrive before the deadline.
        Overloaded: bodies in transit already use all the memory available to them.
        ClientGone: the client disconnected.
    """
    codings = fields.get("content-encoding", "").lower().split(",")
    if any(coding.strip() not in ("", "identity") for coding in codings):
        raise UnsupportedContentEncoding
    length = fields.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > allowance.limit:
        raise ContentTooLarge(allowance.limit)
    size = 0
    try:
        async with asyncio.timeout(allowance.deadline):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                if size + len(chunk) > allowance.limit:
                    raise ContentTooLarge(allowance.limit)
                if chunk:
                    allowance.budget.take(allowance.client, len(chunk))
                    size += len(chunk)
                    await take(chunk)
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        raise BodyTimeout from None
    finally:
        if size:
            allowance.budget.give_back(allowance.client, size)


async def receive_text(receive: Receive, fields: Mapping[str, str], allowance: Allowance) -> bytes:
    """Receive a whole body in memory; raises as `receive_body` does."""
    # A single buffer, because separate chunks can take forty bytes of memory per byte received.
    text = bytearray()

    async def take(chunk: bytes) -> None:
        text.extend(chunk)

    await receive_body(receive, fields, allowance, take)
    return bytes(text)


async def receive_form(
    receive: Receive,
    fields: Mapping[str, str],
    allowance: Allowance,
    read: Callable[[bytes], Awaitable[None]],
) -> None:
    """Receive a form or a file, and parse it in pieces; raises as `receive_body` does."""
    waiting = bytearray()

    async def take(chunk: bytes) -> None:
        waiting.extend(chunk)
        if len(waiting) >= _PIECE:
            piece = bytes(waiting)
            waiting.clear()
            await read(piece)

    await receive_body(receive, fields, allowance, take)
    if waiting:
        await read(bytes(waiting))


def read_json(body: Body, fields: Mapping[str, str], text: bytes) -> JSON:
    """Parse and validate a received body, and fill in defaults.

    Raises:
        UnsupportedMediaType: the body has another media type, or another charset than UTF-8.
        InvalidBody: the body is missing, not JSON or invalid. The error lists every violation,
            unless the first one prevents further checks.
    """
    if not text:
        if not body.required:
            return None
        raise _fault("required", "is required")
    field = fields.get("content-type", "")
    media_type, options = parse_options_header(field[:_LONGEST_MEDIA_TYPE])
    is_supported = (
        _is_json(media_type.lower(), body)
        and options.get("charset", "utf-8").lower() in ("utf-8", "utf8")
        and len(field) <= _LONGEST_MEDIA_TYPE
    )
    if not is_supported and media_type.lower() not in _UNTYPED:
        raise UnsupportedMediaType(patches=body.patches)
    try:
        value = strict_json.parse(text)
    except strict_json.NotStrictJSON as error:
        raise _fault("json", f"cannot be read: {error}") from None
    if not is_supported:
        # The text is JSON, so the client only has to name its media type.
        raise UnsupportedMediaType(patches=body.patches)
    if not body.validator.is_valid(value):
        raise InvalidBody(*body.validator.violations(value))
    return body.normalise(value) if body.normalise else value


def _is_json(media_type: str, body: Body) -> bool:
    return media_type == JSON_MEDIA_TYPE or (
        body.any_json and _JSON_SUFFIX.fullmatch(media_type) is not None
    )


def _fault(code: str, message: str) -> InvalidBody:
    return InvalidBody([Violation("", code, message)])


class BodyReceiver:
    """Receives bodies on the event loop; parsing that can take long is done in a thread."""

    def __init__(self, bridge: Bridge, readers: Mapping[str, ReadFile], settings: Settings) -> None:
        self._run = bridge.run
        self._readers = readers
        self._settings = settings
        most_bytes = settings.max_body_bytes
        self._budget = Budget(_BODIES * most_bytes, _BODIES_OF_A_CLIENT * most_bytes)

    async def receive(self, request: Request, operation: Operation, receive: Receive) -> None:
        """Receive and validate the body that the operation declares.

        Raises as `receive_body`, and `read_json` or `FormReader` do.
        """
        if operation.body is not None:
            await self._receive_json(request, operation.body, receive)
        elif operation.form is not None:
            await self._receive_form(request, operation.form, receive)

    async def _receive_json(self, request: Request, body: Body, receive: Receive) -> None:
        text = await receive_text(receive, request.fields, self._allow(request, body.most_bytes))
        pool = READS if len(text) > _LARGE_BODY else INLINE
        request.body = await self._run(pool, _KIND, read_json, body, request.fields, text)

    async def _receive_form(self, request: Request, form: Form, receive: Receive) -> None:
        reader = request.form = FormReader(form, request.fields.get("content-type", ""))

        async def read(piece: bytes) -> None:
            # A thread is taken only for bytes that have arrived, so slow clients hold none.
            await self._run(READS, _KIND, reader.write, piece)

        allowance = self._allow(request, form.most_bytes)
        await receive_form(receive, request.fields, allowance, read)
        request.body = await self._run(READS, _KIND, reader.finish)

    def _allow(self, request: Request, most_bytes: int | None) -> Allowance:
        """Return the limits for the body of a request."""
        limit = self._settings.max_body_bytes
        return Allowance(
            limit if most_bytes is None else min(limit, most_bytes),
            self._settings.body_timeout,
            self._budget,
            network_of(request.client_address),
        )

    async def read_files(self, request: Request, operation: Operation) -> None:
        """Replace each file that has a reader with the reader's result.

        This happens before the transaction of the request starts, because it can be slow.
        """
        if operation.form is None:
            return
        for part, upload in list(uploads(operation.form, request.body)):
            read = self._readers[part.reader or ""]
            value = await self._run(operation.pool, operation.tag, read, upload.file)
            if request.body is upload:
                request.body = value
            elif part.is_array:
                members = request.body[part.name]
                members[members.index(upload)] = value
            else:
                request.body[part.name] = value
