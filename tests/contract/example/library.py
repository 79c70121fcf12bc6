"""What a small library gives to the engine: where its books are, who may come in, its errors."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from starlette.types import ASGIApp

from api.contract import engine_errors as errors
from api.contract.asgi import make_asgi
from api.contract.contract import Contract, load_contract
from api.contract.ports import Ports, Settings
from api.contract.serve.request import Answer, HeaderList, Request

T = TypeVar("T")

FOLDER = Path(__file__).with_name("openapi")
HANDLERS = "tests.contract.example.handlers"
SCOPES = ("books:read", "books:add")
STATUSES = {
    errors.MalformedRequest: 400,
    errors.InvalidParameters: 400,
    errors.Unauthenticated: 401,
    errors.InsufficientScope: 403,
    errors.NoSuchResource: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.BodyTimeout: 408,
    errors.ContentTooLarge: 413,
    errors.UnsupportedContentEncoding: 415,
    errors.UnsupportedMediaType: 415,
    errors.InvalidBody: 422,
    errors.Overloaded: 503,
}


def scope_fault(scopes: Iterable[str]) -> str | None:
    """Report a scope that no card has."""
    for scope in scopes:
        if scope not in SCOPES:
            return f"no card has the scope {scope}; use one of {', '.join(SCOPES)}"
    return None


class LibrarySettings(Settings):
    """Settings, all but one of which are the engine's defaults."""

    @property
    def public_url(self) -> str:
        return "http://testserver"


class Library:
    """Books in memory; the library itself is the session and the reader of its transactions."""

    def __init__(self) -> None:
        self.books: list[dict[str, Any]] = []
        self.signs: dict[str, dict[str, object]] = {}
        self._lock = threading.Lock()

    def add(self, book: dict[str, object]) -> dict[str, object]:
        """Give a book its number."""
        self.books.append({"id": len(self.books) + 1, **book})
        return self.books[-1]

    def transact(self, work: Callable[[Any], T], *, late: bool = False, brief: bool = False) -> T:
        del late, brief
        with self._lock:
            return work(self)

    def read(self, work: Callable[[Any], T], *, single: bool = False, staleness: float = 0.0) -> T:
        del staleness
        return self.transact(work, late=single)

    @property
    def can_glance(self) -> bool:
        return True

    def glance(self, work: Callable[[Any], T]) -> T:
        if not self._lock.acquire(blocking=False):
            raise BlockingIOError
        try:
            return work(self)
        finally:
            self._lock.release()

    def flush(self) -> None:
        """There is nothing that is not written yet."""


@dataclass(frozen=True, slots=True)
class Cardholder:
    """Whoever has a card."""

    id: str
    scopes: frozenset[str]
    signed_in_at: datetime | None = None


CARDS = {
    "card-of-ada": Cardholder("ada", frozenset(SCOPES)),
    "card-of-bob": Cardholder("bob", frozenset({"books:read"})),
}


async def authenticate(request: Request, card: str | None) -> Cardholder:
    """Find the reader who has a card."""
    del request
    try:
        return CARDS[card or ""]
    except KeyError:
        raise errors.Unauthenticated("Show your card in X-Reader-Card.") from None


def digest(file: IO[bytes]) -> str:
    """Read a picture, of which the library keeps the digest only."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # It needs less of a file.


class LibraryProblems:
    """Errors as problems without a type."""

    def answer(self, error: Exception, request_id: str) -> Answer:
        """Say what is wrong; of a bug nothing but that it is one."""
        status = STATUSES.get(type(error), 500)
        title = "Internal error" if self.is_bug(error) else str(error)
        headers: HeaderList = [("Content-Type", "application/problem+json")]
        match error:
            case errors.Unauthenticated():
                headers.append(("WWW-Authenticate", "ReaderCard"))
            case errors.MethodNotAllowed():
                headers.append(("Allow", error.allow))
            case errors.Overloaded():
                headers.append(("Retry-After", str(error.retry_after)))
        body = {"status": status, "title": title, "instance": request_id}
        return Answer(status, headers, json.dumps(body).encode())

    def is_bug(self, error: Exception) -> bool:
        """Whether it is none of the engine's refusals."""
        return type(error) not in STATUSES


def make_ports(contract: Contract) -> Ports:
    """Return what the library gives to the engine."""
    return Ports(
        settings=LibrarySettings(),
        authenticators={"readerCard": authenticate},
        problems=LibraryProblems(),
        database=Library(),
        services={"document": contract.document},
        readers={"digest": digest},
    )


def make_library() -> ASGIApp:
    """Return the library as an ASGI application."""
    contract = load_contract(FOLDER, HANDLERS, scope_fault)
    return make_asgi(contract, make_ports(contract))
