"""Password hashing that a test can pause, to observe the service meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from models.identity.password import Passwords
from tests.api.accounts import fresh_address
from tests.factories import fresh_email

_PATIENCE = 30.0


class Held:
    """Threads that want to verify a password and may not yet."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._open = False
        self._inside = 0
        self.came = 0
        """How many verifications have begun."""
        self.most = 0
        """How many of them there were at one time."""

    def wait_for(self, number: int) -> None:
        """Return when so many threads are held; fail if they never come."""
        with self._change:
            assert self._change.wait_for(lambda: self._inside >= number, _PATIENCE)

    def let_go(self) -> None:
        """Hold nobody any more."""
        with self._change:
            self._open = True
            self._change.notify_all()

    @contextmanager
    def pass_through(self) -> Iterator[None]:
        """Wait to be let go, and be counted."""
        with self._change:
            self.came += 1
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._change.notify_all()
            self._change.wait_for(lambda: self._open, _PATIENCE)
        try:
            yield
        finally:
            with self._change:
                self._inside -= 1


@contextmanager
def sign_ups_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Hold every thread that hashes a new account's password until it is let go."""
    held = Held()
    hash_password = Passwords.hash

    def hash_when_let_go(self: Passwords, password: str, *, email: str) -> str:
        with held.pass_through():
            return hash_password(self, password, email=email)

    with monkeypatch.context() as patch:
        patch.setattr(Passwords, "hash", hash_when_let_go)
        try:
            yield held
        finally:
            held.let_go()


@contextmanager
def hashing_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Hold every thread that verifies a password until it is let go, at the latest at the end."""
    held = Held()
    verify = Passwords.verify

    def verify_when_let_go(self: Passwords, password_hash: str | None, password: str) -> bool:
        with held.pass_through():
            return verify(self, password_hash, password)

    with monkeypatch.context() as patch:
        patch.setattr(Passwords, "verify", verify_when_let_go)
        try:
            yield held
        finally:
            held.let_go()


def sign_in_wrongly(client: httpx.Client) -> httpx.Response:
    """Try to sign in to an account that does not exist, from an address of its own."""
    credentials = {"email": fresh_email(), "password": "wrong"}
    return client.post("/v1/auth/token", json=credentials, headers=fresh_address())
