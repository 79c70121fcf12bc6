"""A mail server that fails, and people who sign up and ask for links meanwhile."""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from sqlalchemy import func, select

from models.messages.message import Message
from models.storage.database import Database
from tests.factories import fresh_email
from tests.faults.buyers import NO_RESPONSE, PATIENCE
from tests.live import HOST
from tests.models.relay import Relay
from tests.servers.mail_server import Inbox, mail_server
from tests.servers.redis_server import fresh_address

_LATEST = 900.0
"""Maximum seconds until everything is sent: the pauses between attempts grow."""
_REFUSALS = {NO_RESPONSE, 502, 503, 504}
_TAKEN = 409
"""A repeated sign-up whose first response was lost."""


class MailRoom:
    """A mail server behind a network that can be cut."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._relay = Relay((HOST, inbox.port))
        self.port = self._relay.port

    @contextmanager
    def failing(self, how: int) -> Iterator[None]:
        """In turn, refuse connections, keep silent, or accept no message until the block ends."""
        if how % 3 == 0:
            self._relay.close()
            yield
            self._relay = Relay((HOST, self.inbox.port), socket.create_server((HOST, self.port)))
        elif how % 3 == 1:
            self._relay.freeze()
            yield
            self._relay.thaw()
        else:
            self.inbox.senders = ["421 Closing"] * 10_000
            yield
            self.inbox.senders = []

    def close(self) -> None:
        """Cut all connections."""
        self._relay.close()


@contextmanager
def open_mail_room() -> Iterator[MailRoom]:
    """Accept mail until the block ends."""
    with mail_server() as inbox:
        room = MailRoom(inbox)
        try:
            yield room
        finally:
            room.close()


@dataclass
class Newcomers:
    """People who sign up, and then ask for a link to set a password."""

    url: str
    database: Database
    owed: set[tuple[str, str]] = field(default_factory=set)
    """The kinds and recipients of the messages that were promised."""
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    """The longest time in seconds until a response."""

    def sign_up(self) -> None:
        """Sign up another person, from an address that no limit has counted yet."""
        headers, email = {"X-Forwarded-For": fresh_address()}, fresh_email()
        with httpx.Client(base_url=self.url, headers=headers, timeout=60) as client:
            self._post(client, "/v1/users", {"name": "Ada", "email": email}, {201, _TAKEN})
            self.owed.add(("welcome", email))
            self._post(client, "/v1/auth/password-reset", {"email": email}, {202})
            self.owed.add(("set_password", email))

    def waiting(self) -> int:
        """Count the messages that have not been sent yet."""
        query = select(func.count()).select_from(Message)
        return self.database.transact(lambda session: session.scalar(query), write=False) or 0

    def measures(self, inbox: Inbox) -> dict[str, float]:
        """Wait until everything is sent, and count what arrived."""
        until = time.monotonic() + _LATEST
        while self.waiting():
            assert time.monotonic() < until, f"{self.waiting()} messages have not been sent"
            time.sleep(1)
        ids = [str(each["Message-ID"]) for each in inbox.messages]
        kinds = [each.partition("@")[0].rpartition("-")[2] for each in ids]
        return {
            "confirmed": len(self.owed),
            "repeated": sum(self.statuses[each] for each in _REFUSALS),
            "lost": len(self.owed - set(zip(kinds, inbox.recipients, strict=True))),
            "again": len(ids) - len(set(ids)),
            "slowest": self.slowest,
        }

    def _post(
        self, client: httpx.Client, path: str, body: dict[str, str], expected: set[int]
    ) -> None:
        """Repeat a request until it is confirmed."""
        until = time.monotonic() + PATIENCE
        while (status := self._send(client, path, body)) not in expected:
            assert status in _REFUSALS, status
            assert time.monotonic() < until, self.statuses
            time.sleep(0.05)

    def _send(self, client: httpx.Client, path: str, body: dict[str, str]) -> int:
        began = time.monotonic()
        try:
            status = client.post(path, json=body).status_code
        except httpx.TransportError:
            status = NO_RESPONSE
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[status] += 1
        return status
