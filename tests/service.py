"""An application of its own behind a real socket, in a thread of the test's process.

It runs the server that `python app.py serve` runs. What is different for each test is made here:
the settings, the database and the clients, each with an address of its own so that the rate
limits of one test are not another's.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import argon2
import httpx
import uvicorn

from api.server.application import Application
from api.server.http1.limits import ConnectionLimits, ProtocolConfig
from api.server.http1.protocol import HttpProtocol
from api.server.settings import Settings
from app import create_app
from models.errors import DatabaseUnavailable
from models.identity.password import Passwords
from models.identity.user import User
from tests.event_schemas import check_written_events
from tests.seen import note_seen
from tests.signing import PAYMENT_SECRETS

PASSWORD = "seven green bicycles"
_numbers = itertools.count(1)


@dataclass(eq=False)
class Service:
    """A running application, and the clients of it."""

    app: Application
    url: str
    clients: list[httpx.Client] = field(default_factory=list)
    shared: dict[str, httpx.Response] = field(default_factory=dict)
    """Responses that created what belongs to all administrators, by its path parameter."""

    def client(self, **headers: str) -> httpx.Client:
        """A client that no limit has counted yet."""
        number = next(_numbers)
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        client = httpx.Client(
            base_url=self.url, headers={"X-Forwarded-For": address, **headers}, timeout=30
        )
        self.clients.append(client)
        return client

    def user(self, **changes: str) -> SignedInPerson:
        """A new user who has signed in."""
        return self._person(role="user", **changes)

    def admin(self, **changes: str) -> SignedInPerson:
        """A new administrator who has signed in."""
        return self._person(role="admin", **changes)

    def _person(self, *, role: str, **changes: str) -> SignedInPerson:
        number = next(_numbers)
        values = {"name": f"Person {number}", "email": f"person{number}@concord.example"}
        values |= {"password_hash": CHEAP.hash(PASSWORD, email="nobody@concord.example")} | changes
        create = User.create_administrator if role == "admin" else User.register
        user = self.app.database.transact(lambda session: create(session, **values), write=True)
        client = self.client()
        person = SignedInPerson(user.id, user.email, client)
        person.sign_in()
        return person


@dataclass
class SignedInPerson:
    """Somebody with an account, and a client that acts for them."""

    id: int
    email: str
    client: httpx.Client
    token: str = ""

    def sign_in(self, password: str = PASSWORD) -> None:
        answer = self.client.post(
            "/v1/auth/token", json={"email": self.email, "password": password}
        )
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]
        self.client.headers["Authorization"] = f"Bearer {self.token}"


CHEAP = Passwords(
    parameters=argon2.Parameters(
        type=argon2.Type.ID,
        version=19,
        salt_len=16,
        hash_len=32,
        time_cost=1,
        memory_cost=64,
        parallelism=1,
    )
)
"""Hashes that cost a test next to nothing; sign-in upgrades them, which is tested elsewhere."""


@contextmanager
def running(tmp_path: Path, database_url: str, **environment: str) -> Iterator[Service]:
    """Serve an application until the block ends."""
    settings = Settings.from_environment(
        {
            "APP_ENV": "test",
            "PUBLIC_URL": "http://concord.example",
            "SIGNING_KEY_FILE": str(tmp_path / "signing-key.pem"),
            "DATABASE_URL": database_url,
            "TRUSTED_PROXIES": "127.0.0.1",
            "MAIL_URL": f"file:{tmp_path / 'mail'}",
            "STORAGE_URL": f"file:{tmp_path / 'files'}",
            "PAYMENT_SECRETS": PAYMENT_SECRETS,
            **environment,
        }
    )
    app = create_app(settings)
    config = ProtocolConfig(
        app,
        HttpProtocol,
        limits=ConnectionLimits(),
        problem_types=app.problems.types,
        draining=app.draining,
        graceful_seconds=5,
    )
    with serving(config) as url:
        service = Service(app, url)
        try:
            yield service
            with suppress(DatabaseUnavailable):
                if app.database.schema_version():
                    check_written_events(app.database)
        finally:
            for client in service.clients:
                client.close()
    note_seen(app.metrics)


@contextmanager
def serving(config: uvicorn.Config) -> Iterator[str]:
    """Serve on a free port, in a thread, until the block ends; yield the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
    assert not thread.is_alive(), "the server did not stop"
