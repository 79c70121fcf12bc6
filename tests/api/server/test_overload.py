"""Overload: excess requests fail at once, and slow clients occupy no thread."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy.orm import Session
from starlette.types import Message, Scope

from api import products
from api.server.application import Application
from models.catalogue.product import Product, ProductChanges
from models.errors import InvalidName
from models.storage.page import Page
from models.storage.reader import Reader
from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.api.uploads import upload
from tests.databases import make_database_url
from tests.factories import fresh_email, make_account
from tests.service import Service, running

pytestmark = pytest.mark.mission("M25")

PATIENCE = 30.0
POOLS = ("reads", "writes", "passwords", "registrations")


@contextmanager
def one_thread(tmp_path: Path, **settings: str) -> Iterator[tuple[Service, httpx.Client]]:
    """A service with one thread for requests, one for passwords, and one place to wait in."""
    few = {"THREADS": "1", "HASHING_THREADS": "1", "QUEUE": "1", **settings}
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url, **few) as service:
        yield service, service.client()


class Gate:
    """Keeps requests that list products waiting until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.opened = threading.Event()

    def find_products(self, _reader: Reader, *_: object, **_options: object) -> Page[Product]:
        self.reached.release()
        assert self.opened.wait(PATIENCE)
        return Page([], None)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(products, "find_products", gate.find_products)
    yield gate
    gate.opened.set()


def is_idle(service: Service) -> bool:
    text = service.app.metrics.text()
    return all(f'concord_pool_use{{pool="{name}"}} 0.0' in text for name in POOLS)


@pytest.mark.mission("M8")
@pytest.mark.mission("M17")
def test_requests_beyond_threads_and_queue_are_refused(tmp_path: Path, gate: Gate) -> None:
    with one_thread(tmp_path) as (service, client), ThreadPoolExecutor(3) as pool:
        headers = bearer(token_for(service, make_account(service)))

        def ask() -> Future[httpx.Response]:
            return pool.submit(client.get, "/v1/products", headers=headers, timeout=PATIENCE)

        running_first = ask()
        assert gate.reached.acquire(timeout=PATIENCE)
        others = [ask(), ask()]
        refused = next(as_completed(others, timeout=PATIENCE)).result()
        assert (refused.status_code, problem(refused)) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        for path in ("/health", "/v1/divide?a=1&b=2", "/openapi.json", "/v1/profile"):
            assert client.get(path, headers=headers).status_code == 200
        gate.opened.set()
        answers = [running_first.result(), *(each.result() for each in others)]
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
        assert client.get("/v1/products", headers=headers).status_code == 200
        assert is_idle(service)


def test_stuck_writes_leave_threads_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, opened = threading.Semaphore(0), threading.Event()

    def create(_session: Session, _body: ProductChanges) -> Product:
        reached.release()
        assert opened.wait(PATIENCE)
        raise InvalidName

    monkeypatch.setattr(Product, "create", create)
    product = {"sku": "A", "name": "Pen", "price": {"amount": 1, "currency": "EUR"}}
    # Of two threads, one kind of work can have one.
    with (
        one_thread(tmp_path, THREADS="2", QUEUE="0") as (service, client),
        ThreadPoolExecutor(1) as pool,
    ):
        headers = bearer(token_for(service, make_account(service, role="admin")))
        send = partial(client.post, "/v1/products", json=product, headers=headers)
        try:
            stuck = pool.submit(send, timeout=PATIENCE)
            assert reached.acquire(timeout=PATIENCE)
            refused = send()
            assert (refused.status_code, problem(refused)) == (503, "overloaded")
            for path in ("/v1/products", "/v1/profile"):
                assert client.get(path, headers=headers).status_code == 200
        finally:
            opened.set()
        assert stuck.result().status_code == 422


def test_slow_uploads_occupy_no_thread(tmp_path: Path) -> None:
    body = json.dumps({"name": "Ada", "email": fresh_email()}).encode()
    head = "POST /v1/users HTTP/1.1\nContent-Type: application/json"
    with one_thread(tmp_path) as (service, client), ExitStack() as slow:
        headers = bearer(token_for(service, make_account(service)))
        uploads = [
            slow.enter_context(upload(service, f"{head}\nContent-Length: {len(body)}"))
            for _ in range(20)
        ]
        for each in uploads:
            each.send(body[:-1])
        assert client.get("/v1/profile", headers=headers).status_code == 200
        person = {"name": "Grace", "email": fresh_email()}
        assert client.post("/v1/users", json=person).status_code == 201
        assert is_idle(service)
        uploads[-1].send(body[-1:])
        assert uploads[-1].answer().status == 201


def test_slow_readers_occupy_no_thread(tmp_path: Path) -> None:
    with one_thread(tmp_path) as (service, client), ExitStack() as slow:
        for _ in range(99):
            make_account(service, name="\U0001f600" * 100)
        token = token_for(service, make_account(service, role="admin"))
        url = urlsplit(service.url)
        for _ in range(20):
            peer = slow.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            peer.connect((url.hostname, url.port))
            fields = f"Host: a\r\nAuthorization: Bearer {token}\r\n\r\n"
            peer.sendall(f"GET /v1/users?limit=100 HTTP/1.1\r\n{fields}".encode())
            # It reads the first byte of the answer and no more.
            peer.settimeout(PATIENCE)
            assert peer.recv(1) == b"H"
        assert client.get("/v1/users", headers=bearer(token)).status_code == 200
        assert is_idle(service)


def test_a_thread_is_released_before_the_response_is_read(tmp_path: Path) -> None:
    with one_thread(tmp_path) as (service, client):
        headers = bearer(token_for(service, make_account(service)))
        seen = asyncio.run(use_while_sending(service.app, headers["Authorization"]))
        assert client.get("/v1/profile", headers=headers).status_code == 200
    assert seen == [True, True]


async def use_while_sending(app: Application, authorization: str) -> list[bool]:
    """Whether no thread is taken each time that a part of an answer is handed to the server."""
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/profile",
        "raw_path": b"/v1/profile",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "headers": [(b"authorization", authorization.encode())],
    }
    idle: list[bool] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        assert message.get("status", 200) == 200
        idle.append('concord_pool_use{pool="reads"} 0.0' in app.metrics.text())

    await app(scope, receive, send)
    return idle


@pytest.mark.mission("M10")
def test_aborted_requests_leave_nothing_behind(tmp_path: Path) -> None:
    with one_thread(tmp_path, BODY_TIMEOUT="300") as (service, client):
        headers = bearer(token_for(service, make_account(service)))
        assert client.get("/v1/profile", headers=headers).status_code == 200
        threads = threading.active_count()
        head = f"GET /v1/profile HTTP/1.1\nAuthorization: {headers['Authorization']}"
        for number in range(200):
            with upload(service, "POST /v1/users HTTP/1.1\nContent-Length: 1000") as sending:
                sending.send(b"{" * (number % 7))
        for _ in range(50):
            with upload(service, head):
                pass
        until = time.monotonic() + PATIENCE
        while not is_idle(service):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert client.get("/v1/profile", headers=headers).status_code == 200
        assert threading.active_count() <= threads + 1


def test_parsing_a_large_body_does_not_block_others(tmp_path: Path) -> None:
    product = {
        "sku": "",
        "description": "\U0001f600" * 5000,
        "metadata": {f"name{number:036}": "\U0001f600" * 500 for number in range(50)},
    }
    large = json.dumps(product).encode()
    with one_thread(tmp_path, QUEUE="64") as (service, client), ThreadPoolExecutor(4) as pool:
        signed_in = bearer(token_for(service, make_account(service, role="admin")))
        fields = {"Content-Type": "application/json", **signed_in}
        with httpx.Client(base_url=service.url, timeout=PATIENCE) as sender:
            sent = [
                pool.submit(
                    sender.post,
                    "/v1/products",
                    content=large,
                    headers={**fields, "Idempotency-Key": str(number)},
                )
                for number in range(4)
            ]
            while not all(each.done() for each in sent):
                assert client.get("/health", timeout=5).status_code == 200
        assert {each.result().status_code for each in sent} == {422}
