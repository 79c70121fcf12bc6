"""What belongs to one request and to no other: its id, its fields, its caller, its values."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.types import Scope

from api.contract.errors import MalformedRequest
from api.contract.operations import Operation
from api.contract.parameters import Value
from api.contract.schemas import Validator
from api.contract.strict_json import JSON
from api.security import Caller

HeaderList: TypeAlias = list[tuple[str, str]]

# Of these fields a second line is a contradiction, which two readers resolve differently. All
# others are joined, as lists are (RFC 9110, section 5.3): what is not read here does no harm here.
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


@dataclass(slots=True)
class Request:
    """One request on its way through the engine; each step fills in what it found."""

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
    body: JSON = None
    position: object = None
    headers: HeaderList = field(default_factory=list)
    """Headers that the answer will carry whatever becomes of the request."""

    @property
    def filters(self) -> dict[str, Value]:
        """What a listing is of: its parent in the path and what the query asks for."""
        return {**self.path_values, **self.query_values}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: status, headers and the whole body."""

    status: int
    headers: HeaderList
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return a header's value, whatever the case of its name."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


Next: TypeAlias = Callable[[Request], Answer]
"""The rest of the way: runs the operation of a request and returns its answer."""


def read_fields(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the request's fields by lower-case name, lists joined.

    Raises:
        MalformedRequest: a field that may come once came twice.
    """
    fields: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), _text(raw_value)
        if name not in fields:
            fields[name] = value
        elif name in _SINGLE:
            raise MalformedRequest("A header that may be given once is given twice.")
        else:
            fields[name] = f"{fields[name]}, {value}"
    return fields


def request_id(scope: Scope, declared: Validator) -> str:
    """Return the client's `X-Request-ID` where it is as the contract declares, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = _text(value)
            return text if declared.is_valid(text) else uuid.uuid4().hex
    return uuid.uuid4().hex


def _text(raw_value: bytes) -> str:
    """Read a field's value, without the white space that the server may have left around it."""
    return raw_value.decode("latin-1").strip(" \t")
