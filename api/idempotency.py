"""Requests that may be sent again: the header `Idempotency-Key` names one, its caller chose it.

The answer is kept in the transaction that did what was asked. The same request again is answered
with it, so that a client that lost an answer gets it by asking once more, and nothing is done
twice. A refusal is not kept: nothing was done, and the key is as good as new.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
from sqlalchemy.orm import Session

from api.contract.request import Answer, Request
from models.database import Database
from models.errors import IdempotencyInFlight, IdempotencyKeyReused
from models.idempotency import IdempotencyRecord, KeptAnswer

_ARGUMENT = "idempotency_key"
_REPLAYED = ("Idempotent-Replayed", "true")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says that it is: its caller's key, and a fingerprint of all that it asks."""

    user_id: int
    key: str
    fingerprint: bytes

    @classmethod
    def of(cls, request: Request) -> "Claim | None":
        """Read the claim of a request; None if it has no key, or nobody whose key it could be."""
        key = request.header_values.get(_ARGUMENT)
        if request.caller is None or not isinstance(key, str):
            return None
        return cls(request.caller.user_id, key, _fingerprint(request))

    @property
    def number(self) -> int:
        """A number that no other key shares but by chance, once in 2^64."""
        digest = hashlib.sha256(f"{self.user_id} {self.key}".encode()).digest()
        return int.from_bytes(digest[:8], signed=True)


class Idempotency:
    """Lets a request with a key be done once. It is shared by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[tuple[int, str]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def alone(self, claim: Claim) -> Iterator[None]:
        """Keep other requests with the key out of this process while the block runs.

        Raises:
            IdempotencyInFlight: one is running.
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

    def replay(self, session: Session, claim: Claim) -> Answer | None:
        """Return the answer that the request had before, or None if it has to be done.

        From here to the end of the transaction no other process does it either.

        Raises:
            IdempotencyInFlight: another process is doing it.
            IdempotencyKeyReused: the key was used for another request.
        """
        if not self._database.try_lock(session, claim.number):
            raise IdempotencyInFlight
        kept = IdempotencyRecord.find(session, claim.user_id, claim.key)
        if kept is None:
            return None
        if kept.fingerprint != claim.fingerprint:
            raise IdempotencyKeyReused
        headers = [(name, value) for name, value in kept.headers]
        return Answer(kept.status, [*headers, _REPLAYED], kept.body)

    def remember(
        self, session: Session, claim: Claim, answer: Answer, *, owner: int | None
    ) -> None:
        """Keep the answer, if what the transaction did is kept; it is about the owner's things."""
        headers = [list(header) for header in answer.headers]
        kept = KeptAnswer(claim.fingerprint, answer.status, headers, answer.body)
        IdempotencyRecord.store(session, claim.user_id, claim.key, kept, owner_id=owner)


def _fingerprint(request: Request) -> bytes:
    """Hash what is asked, not how it is spelled: decoded values, and the members in one order."""
    operation = request.operation
    asked = [operation and (operation.method, operation.path), request.filters, request.body]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()
