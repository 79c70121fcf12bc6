"""The interfaces through which the engine uses an application.

The protocols are structural: a class that matches one need not inherit from it. A class that
inherits from `Settings` gets the defaults.
"""

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, Protocol, TypeAlias, TypeVar

from api.contract.compile.operations import READS, WRITES, Operation
from api.contract.serve.bridge import Bridge, Pool
from api.contract.serve.forwarding import ForwardedHeader, Network
from api.contract.serve.request import Answer, Caller, Request, Source, Span

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Types that belong to the application. The engine only passes their values between ports.
Session: TypeAlias = Any
"""The session of a writing transaction. The engine calls only `flush()`."""
Reader: TypeAlias = Any
"""Reads, and cannot write."""
Claim: TypeAlias = Any
"""The identity of a request that may be retried, such as its caller and key."""

Authenticate: TypeAlias = Callable[[Request, str | None], Awaitable[Caller]]
"""Returns the caller for a request's credentials; runs on the event loop.

The credentials are the value of the security scheme's header, or None if it is missing. Invalid
credentials raise an error that `Problems` maps to a problem.
"""
Render: TypeAlias = Callable[[str, object], str]
"""Renders a page from a template's name and a handler's result."""
ReadFile: TypeAlias = Callable[[IO[bytes]], object]
"""Makes a handler's value of a file that a client sent; runs in the operation's pool.

It runs before the transaction of the request starts. An invalid file raises an error that
`Problems` maps to a problem.
"""
FromRequest: TypeAlias = Callable[[Request], object]
"""Derives a handler argument from a request."""
Wait: TypeAlias = Callable[[Request], Awaitable[None]]
"""Delays a valid request until there is something to return; runs on the event loop."""


@dataclass(frozen=True, slots=True)
class Content:
    """The result of a handler that builds its body without a JSON schema: an image, a script.

    `headers` are those that the contract declares for it. A stored file has a `source` instead of a
    body. If the contract declares 206, clients may request ranges of it.
    """

    media_type: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None


class Page(Protocol):
    """The result of a handler that lists resources in pages."""

    @property
    def items(self) -> Sequence[object]:
        """The items of this page."""

    @property
    def next_key(self) -> object:
        """The JSON-serializable key where the next page starts; None on the last page."""


class Transactions(Protocol):
    """Runs functions in transactions: `glance` on the event loop, the others in threads."""

    def transact(self, work: Callable[[Session], T], *, late: bool, brief: bool) -> T:
        """Run the work in one transaction and return its result; any error rolls it back.

        A `late` transaction reads for some time before it writes. A `brief` one may share its
        commit with others. The work may be restarted from the beginning.
        """

    def read(self, work: Callable[[Reader], T], *, single: bool, staleness: float) -> T:
        """Run read-only work; all its statements see the same state.

        `single` promises that the work runs only one statement. The state may be up to `staleness`
        seconds old.
        """

    @property
    def can_glance(self) -> bool:
        """Whether statements are quick enough for `glance` to run them on the event loop."""

    def glance(self, work: Callable[[Reader], T]) -> T:
        """Run read-only work that consists of one statement on the event loop.

        Raises:
            BlockingIOError: the work would have to wait, so it must be repeated in a thread.
        """


class Recheck(Protocol):
    """Checks again, in the transaction of a write, that the caller's credentials are valid."""

    def __call__(self, session: Session, caller: Any, *, hold: bool) -> Callable[[], Caller]:  # noqa: ANN401 - the application's own caller.
        """Begin the check; return a function that waits for and returns the caller's current state.

        `hold` locks this state until the transaction ends.
        """


class KeptAnswers(Protocol):
    """Stores the responses to requests with an `Idempotency-Key`, so each request runs once."""

    def claim(self, request: Request) -> Claim | None:
        """Return the identity of a request; None if it has no key."""

    def alone(self, claim: Claim) -> AbstractContextManager[None]:
        """Block other requests with the same key in this process while the block runs."""

    def look_up(self, session: Session, claim: Claim) -> Callable[[Request], Answer | None]:
        """Lock a key until the transaction ends, and look up its stored response.

        Return a function that waits for both, and returns the response or `None`.
        """

    def remember(
        self, session: Session, claim: Claim, request: Request, answer: Answer, result: object
    ) -> None:
        """Store a response, which was made from the handler's `result`."""


class Problems(Protocol):
    """The problem registry: maps errors to problem responses.

    If an error's attribute `keeps_changes` is true, the engine commits the changes made before it
    was raised.
    """

    def answer(self, error: Exception, request_id: str) -> Answer:
        """Return the problem response for an exception."""

    def is_bug(self, error: Exception) -> bool:
        """Whether an error is a bug, which is logged with its traceback."""


class RateLimits(Protocol):
    """Counts requests against `x-rate-limit`, as `rate_limits.RateLimiter` does."""

    async def count(self, request: Request, operation: Operation, *, with_body: bool) -> None:
        """Count a request against the limits that need its body, or against all others."""

    async def give_back(self, request: Request, status: int) -> None:
        """Refund the request in limits that do not count responses with this status."""


class Settings(Protocol):
    """The settings that the engine reads."""

    @property
    def public_url(self) -> str:
        """Base URL of the service for clients, without a trailing slash."""

    @property
    def trusted_proxies(self) -> Sequence[Network]:
        """Networks whose forwarding headers are trusted."""
        return ()

    @property
    def forwarded_header(self) -> ForwardedHeader:
        """The forwarding header that trusted proxies send."""
        return "x-forwarded-for"

    @property
    def trust_forwarded_host(self) -> bool:
        """Whether links start with the host that trusted proxies report."""
        return False

    @property
    def cors_origins(self) -> Sequence[str]:
        """Origins whose scripts may call the service from a browser."""
        return ()

    @property
    def max_body_bytes(self) -> int:
        """Maximum size of a request body, in bytes."""
        return 1024 * 1024

    @property
    def body_timeout(self) -> float:
        """Time limit for receiving a request's body, in seconds."""
        return 20.0

    @property
    def response_check_sample(self) -> float:
        """Fraction of responses that are checked against the contract, from 0 to 1."""
        return 1.0

    @property
    def app_env(self) -> str:
        """In `production`, a response that breaks the contract is logged; elsewhere it is a 500."""
        return "development"


class Logger(Protocol):
    """A structured log: events with named values."""

    def debug(self, event: str, **values: object) -> object:
        """Log an event that matters only for debugging."""

    def info(self, event: str, **values: object) -> object:
        """Log an ordinary event."""

    def warning(self, event: str, **values: object) -> object:
        """Log an event that operators should investigate."""

    def error(self, event: str, **values: object) -> object:
        """Log a bug; `exc_info` is the exception."""


class Metrics(Protocol):
    """Metrics of the responses sent."""

    def count_request(self, operation: str, status: int, seconds: float) -> None:
        """Count a response and its duration."""

    def count_violation(self, operation: str) -> None:
        """Count a response that breaks the contract."""


class Unlimited:
    """The rate limiter of a contract without rate limits."""

    async def count(self, request: Request, operation: Operation, *, with_body: bool) -> None:
        """Count nothing."""

    async def give_back(self, request: Request, status: int) -> None:
        """Refund nothing."""


class _StandardLogger(Logger):
    """Logs with the standard library, if the application provides no logger."""

    def info(self, event: str, **values: object) -> None:
        _log.info("%s %s", event, values)

    def warning(self, event: str, **values: object) -> None:
        _log.warning("%s %s", event, values)

    def error(self, event: str, **values: object) -> None:
        error = values.get("exc_info")
        cause = error if isinstance(error, BaseException) else None
        _log.error("%s %s", event, values, exc_info=cause)


class _Uncounted(Metrics):
    """Metrics that count nothing."""


def _same_caller(session: Session, caller: Caller, *, hold: bool) -> Callable[[], Caller]:
    del session, hold
    return lambda: caller


def _own_threads() -> Bridge:
    return Bridge({name: Pool(name, 8, 256, share=6) for name in (READS, WRITES)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything that an application provides to the engine, except its contract and handlers."""

    settings: Settings
    authenticators: Mapping[str, Authenticate]
    """Authenticators by name of their security scheme."""
    problems: Problems
    database: Transactions
    logger: Logger = field(default_factory=_StandardLogger)
    metrics: Metrics = field(default_factory=_Uncounted)
    cursor_key: bytes = field(default_factory=partial(secrets.token_bytes, 32))
    """The secret that signs cursors. All processes behind one URL must share it."""
    recheck: Recheck = _same_caller
    idempotency: KeptAnswers | None = None
    rate_limiter: RateLimits | None = None
    """Required if the contract declares `x-rate-limit`."""
    render: Render | None = None
    services: Mapping[str, object] = field(default_factory=dict)
    """Values for handler arguments, by name."""
    from_request: Mapping[str, FromRequest] = field(default_factory=dict)
    """Handler arguments derived from each request, by name."""
    readers: Mapping[str, ReadFile] = field(default_factory=dict)
    """Readers for files in bodies, by the names that `x-engine-reader` uses."""
    waits: Mapping[str, Wait] = field(default_factory=dict)
    """The waits that `x-engine-wait` names."""
    bridge: Bridge = field(default_factory=_own_threads)
    """The thread pools that `x-engine-pool` names. Two are called `reads` and `writes`."""
    start_span: Callable[[Request], Span] | None = None
    """Called at the start of each request that is traced. Without it, nothing is recorded."""
    start_up: Callable[[], Awaitable[None]] | None = None
    shut_down: Callable[[], Awaitable[None]] | None = None
    """Called when the server stops. The default closes the thread pools."""
