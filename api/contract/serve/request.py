"""Per-request data: the request's id, fields, caller and values, and its response."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from starlette.types import Scope

from api.contract.compile.operations import Operation
from api.contract.compile.parameters import Value
from api.contract.compile.schemas import Validator
from api.contract.engine_errors import MalformedRequest
from api.contract.serve.forms import FormReader

HeaderList: TypeAlias = list[tuple[str, str]]

# A second line of one of these headers is a contradiction, which two readers may resolve
# differently. All other headers are joined as lists (RFC 9110, section 5.3), which is harmless
# because they are not read here.
_SINGLE = frozenset(
    (
        "access-control-request-method",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "origin",
        "x-request-id",
    )
)

_TAG_LISTS = ("if-match", "if-none-match")
_MEMBER = re.compile(r'(?:[^",]++|"[^"]*+"?)++')

_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-[0-9a-f]{2}(?P<more>-[\x21-\x7e]*)?"
)


class Caller(Protocol):
    """The caller as the engine sees it; the application's own class has more attributes."""

    @property
    def id(self) -> int | str:
        """Identifies the caller in rate limits and logs."""

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that the credentials grant."""

    @property
    def signed_in_at(self) -> datetime | None:
        """Start time of the caller's session; None for an API key."""


@dataclass(slots=True)
class Request:
    """A request on its way through the engine; each stage fills in its results."""

    method: str
    raw_path: bytes
    query_string: bytes
    fields: Mapping[str, str]
    id: str
    started: float
    client_address: str
    base_url: str
    operation: Operation | None = None
    path_values: dict[str, Value] = field(default_factory=dict)
    query_values: dict[str, Value] = field(default_factory=dict)
    header_values: dict[str, Value] = field(default_factory=dict)
    media_type: str = ""
    caller: Caller | None = None
    at_once: bool = False
    """Whether the handler runs on the event loop, where its statement must not wait."""
    body: Any = None
    """The decoded body: JSON, a form or a file."""
    form: FormReader | None = None
    position: object = None
    headers: HeaderList = field(default_factory=list)
    """Headers for the response, whether it is a success or a problem."""
    trace_id: str | None = None
    """The id of the trace that the request belongs to, if its client or this service has one."""
    span: "Span | None" = None
    """The part of the trace that this request is, if it is recorded."""
    returnable: list[str] = field(default_factory=list)
    """Names of the limits that counted the request and may give its try back."""

    @property
    def ids(self) -> dict[str, str]:
        """The ids that log lines about the request have."""
        ids = {"request_id": self.id}
        if self.trace_id is not None:
            ids["trace_id"] = self.trace_id
        return ids

    @property
    def filters(self) -> dict[str, Value]:
        """The parameters that determine a list: path and query values."""
        return {**self.path_values, **self.query_values}


class Span(Protocol):
    """The part of a trace that a request is."""

    @property
    def trace_id(self) -> str:
        """The id of the trace, as 32 hexadecimal digits."""

    def handle(self, work: "Next") -> "Next":
        """Return `work` as a part of its own."""

    def end(self, request: Request, status: int | None) -> None:
        """End the span; without a status, the client had disconnected."""


class Source(Protocol):
    """A stored file that is sent in pieces, so that it is never whole in memory."""

    @property
    def size(self) -> int:
        """Size of the file in bytes."""

    @property
    def modified(self) -> datetime:
        """When the file was last changed."""

    @property
    def tag(self) -> str:
        """Identifies the file's content, with characters that an entity tag may have."""

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of the file; may block."""

    def location(self, method: str) -> str | None:
        """Return a URL where the store itself answers this method; None if the service sends it.

        May block. It is asked only if the contract declares 307.
        """


@dataclass(frozen=True, slots=True)
class Stretch:
    """The bytes of a file that a response sends."""

    source: Source
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response: status, headers, and a body or bytes of a file."""

    status: int
    headers: HeaderList
    body: bytes = b""
    stretch: Stretch | None = None

    @property
    def length(self) -> int:
        """The value of `Content-Length`."""
        return len(self.body) if self.stretch is None else self.stretch.length

    def header(self, name: str) -> str | None:
        """Return a header's value; its name is case-insensitive."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


Next: TypeAlias = Callable[[Request], Answer]
"""The next stage: runs the operation of a request and returns its response."""


def read_fields(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the request's fields by lower-case name, with lists joined.

    Lists of entity tags have no empty members (RFC 9110, section 5.6.1.2).

    Raises:
        MalformedRequest: a field that may appear only once is repeated.
    """
    fields: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), _text(raw_value)
        if name not in fields:
            fields[name] = value
        elif name in _SINGLE:
            raise MalformedRequest("A header that may appear only once is repeated.")
        else:
            lists.setdefault(name, [fields[name]]).append(value)
    fields.update((name, ", ".join(values)) for name, values in lists.items())
    for name in _TAG_LISTS:
        if name in fields:
            members = map(str.strip, _MEMBER.findall(fields[name]))
            fields[name] = ", ".join(filter(None, members))
    return fields


def request_id(scope: Scope, declared: Validator) -> str:
    """Return the client's `X-Request-ID` if it matches its schema, or else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and declared.is_valid(text := _text(value)):
            return text
    return os.urandom(16).hex()


def trace_id(traceparent: str | None) -> str | None:
    """Return the trace id of a `traceparent` header; None if the header is missing or invalid.

    Versions after 00 may have more fields (W3C Trace Context, section 3.2).
    """
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    return found["trace"]


def _text(raw_value: bytes) -> str:
    """Decode a field's value, and strip white space that the server may have left around it."""
    return raw_value.decode("latin-1").strip(" \t")
