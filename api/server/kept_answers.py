"""Idempotent requests, which callers identify by an `Idempotency-Key` of their choice.

The response is stored in the transaction of the request itself. A repetition of the request gets
the stored response, so that a client can safely retry after losing a response. Errors are not
stored, because nothing was changed, and the key can be used again.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
from sqlalchemy.orm import Session

from api.contract.serve.request import Answer, Request
from api.credentials.bearer import Caller
from models.errors import IdempotencyInFlight, IdempotencyKeyReused, NotFound
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord, KeptAnswer

_ARGUMENT = "idempotency_key"
_REPLAYED = ("Idempotent-Replayed", "true")


@dataclass(frozen=True, slots=True)
class Claim:
    """The identity of a request: its account and key."""

    user_id: int
    key: str

    @classmethod
    def of(cls, request: Request) -> "Claim | None":
        """Return the claim of a request; None without a key or an authenticated caller."""
        key = request.header_values.get(_ARGUMENT)
        if not isinstance(request.caller, Caller) or not isinstance(key, str):
            return None
        return cls(request.caller.user_id, key)

    @property
    def number(self) -> int:
        """A 64-bit number for the key; two keys share one only by chance."""
        digest = hashlib.sha256(f"{self.user_id} {self.key}".encode()).digest()
        return int.from_bytes(digest[:8], signed=True)


class Idempotency:
    """Ensures that a request with a key is executed once. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[tuple[int, str]] = set()
        self._lock = threading.Lock()

    claim = staticmethod(Claim.of)

    @contextmanager
    def alone(self, claim: Claim) -> Iterator[None]:
        """Block other requests with the same key in this process while the block runs.

        Raises:
            IdempotencyInFlight: a request with the key is already running.
        """
        name = (claim.user_id, claim.key)
        with self._lock:
            if name in self._running:
                raise IdempotencyInFlight
            self._running.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(name)

    def look_up(self, session: Session, claim: Claim) -> Callable[[Request], Answer | None]:
        """Lock a key, and look up the response that is stored under it.

        Return a function that waits for both, and returns the response; None if the request must be
        executed. From then on, no other process executes it until the transaction ends. The
        function raises:

            IdempotencyInFlight: another process is executing it.
            NotFound: the response describes a resource that the caller may not see.
            IdempotencyKeyReused: the key was used for another request, or with other scopes.
        """
        is_locked = self._database.try_lock(session, claim.number)
        find = IdempotencyRecord.find(session, claim.user_id, claim.key)

        def replay(request: Request) -> Answer | None:
            if not is_locked():
                raise IdempotencyInFlight
            kept = find()
            return None if kept is None else _replay(kept, request)

        return replay

    def remember(
        self, session: Session, claim: Claim, request: Request, answer: Answer, result: object
    ) -> None:
        """Store a response, in the same transaction as the changes of its request."""
        headers = [list(header) for header in answer.headers]
        kept = KeptAnswer(
            _fingerprint(request), answer.status, headers, answer.body, _owner(result)
        )
        IdempotencyRecord.store(session, claim.user_id, claim.key, kept)


def _replay(kept: KeptAnswer, request: Request) -> Answer:
    if not _sees(request.caller, kept.owner_id):
        raise NotFound
    if kept.fingerprint != _fingerprint(request):
        raise IdempotencyKeyReused
    headers = [(name, value) for name, value in kept.headers]
    return Answer(kept.status, [*headers, _REPLAYED], kept.body)


def _owner(result: object) -> int | None:
    """Return the id of the account that owns a result, if it has an owner."""
    owner = getattr(result, "user_id", None)
    return owner if isinstance(owner, int) else None


def _sees(caller: object, owner: int | None) -> bool:
    """Return whether a caller may see a resource; one without an owner is visible to all."""
    if owner is None:
        return True
    return isinstance(caller, Caller) and (caller.is_admin or caller.user_id == owner)


def _fingerprint(request: Request) -> bytes:
    """Hash the meaning of a request, not its spelling: decoded values, with members sorted.

    The hash includes the caller's scopes, because another token of the account may see less.
    """
    operation, caller = request.operation, request.caller
    asked = [
        operation and (operation.method, operation.path),
        request.filters,
        request.body,
        caller and sorted(caller.scopes),
    ]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()
