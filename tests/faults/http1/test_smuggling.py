"""A request inside the body of another one is never served, directly or behind a proxy.

httptools reports no body for a request that asks for an upgrade, and a server that goes on parsing
takes the body for the next request. Behind a proxy its answer, or what it does, is the next
client's. Each request of the matrix is sent both whole and with its body in the next packet.
"""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

import h11
import pytest

from tests.faults.http1.small_server import started
from tests.faults.http1.small_service import Setup
from tests.faults.live_shop import Shop, open_shop
from tests.faults.proxies import PROXIES, Proxy, running_proxy
from tests.live import HOST, LiveServer, running_server

METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS")
UPGRADES = (b"", b"websocket", b"h2c", b"x/1, y")
HIDDEN = b"GET /echo/hidden HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
FRAMINGS = {
    "none": (b"", b""),
    "length 0": (b"Content-Length: 0\r\n", b""),
    "length": (b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
    "chunked": (b"Transfer-Encoding: chunked\r\n", CHUNKED),
    "both": (b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", CHUNKED),
}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


class Client:
    """A connection whose answers are read one by one; a lost connection reads as None."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        try:
            for piece in pieces:
                self._socket.sendall(piece)
                if piece is not pieces[-1]:
                    time.sleep(0.003)
        except ConnectionError:
            """What was answered before may still be read."""

    def answer(self) -> Answer | None:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        if self._received:
            connection.receive_data(self._received)
        status, body = 0, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = self._socket.recv(65_536)
                except ConnectionError:
                    data = b""
                if not data and not status:
                    return None
                connection.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._received = connection.trailing_data[0]
                return Answer(status, body)

    def ask(self, path: str, headers: Mapping[str, str] = MappingProxyType({})) -> Answer | None:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        return self.answer()


@dataclass(frozen=True)
class Target:
    """Where requests are sent, and the port of the server that they reach."""

    name: str
    port: int
    server_port: int


@contextmanager
def reached(target: Proxy | None, server_port: int, folder: Path) -> Iterator[Target]:
    if target is None:
        yield Target("the server", server_port, server_port)
        return
    with running_proxy(target, server_port, folder) as port:
        yield Target(target.name, port, server_port)


@pytest.fixture(scope="module", params=[None, *PROXIES], ids=["direct", *(p.name for p in PROXIES)])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    with (
        started(Setup(keep_alive_seconds=30)) as server,
        reached(request.param, server.port, tmp_path_factory.mktemp("proxy")) as reachable,
    ):
        yield reachable


def is_echo(answer: Answer | None, path: str) -> bool:
    return answer is not None and answer.status == 200 and json.loads(answer.body)["path"] == path


def request_pieces(
    method: bytes, path: str, upgrade: bytes, framing: tuple[bytes, bytes], *, whole: bool
) -> list[bytes]:
    asked = b"Connection: Upgrade\r\nUpgrade: %s\r\n" % upgrade if upgrade else b""
    fields, body = framing
    head = b"%s %s HTTP/1.1\r\nHost: a\r\n%s%s\r\n" % (method, path.encode(), asked, fields)
    return [head + body] if whole or not body else [head, body]


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("upgrade", UPGRADES, ids=lambda each: each.decode() or "no upgrade")
def test_each_request_gets_one_response_and_other_clients_their_own(
    target: Target, upgrade: bytes, framing: tuple[bytes, bytes]
) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(Client(target.port)) for _ in range(2)]
        for method, whole in itertools.product(METHODS, (True, False)):
            number = next(_numbers)
            attack = stack.enter_context(Client(target.port))
            path = f"/echo/{number}/attack"
            attack.send(*request_pieces(method, path, upgrade, framing, whole=whole))
            first = attack.answer()
            assert first is None or first.status >= 400 or is_echo(first, path), (method, first)
            for name, other in enumerate(others):
                path = f"/echo/{number}/other/{name}"
                answer = other.ask(path)
                assert is_echo(answer, path), (method, whole, answer)
            path = f"/echo/{number}/again"
            again = attack.ask(path)
            assert again is None or is_echo(again, path), (method, whole, again)
        with Client(target.server_port) as direct:
            seen = direct.ask("/seen")
        assert seen is not None
        assert "/echo/hidden" not in json.loads(seen.body)["paths"]


def smuggled(request: str, upgrade: str) -> bytes:
    """A request whose body is the beginning of another, for the next client to complete."""
    hidden = f"{request} HTTP/1.1\r\nHost: a\r\nX-Ignored: "
    return (
        f"POST /v1/auth/token HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(hidden)}\r\n\r\n{hidden}"
    ).encode()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, Shop]]:
    folder = tmp_path_factory.mktemp("service")
    key = folder / "signing-key.pem"
    with (
        running_server(folder, TRUSTED_PROXIES=HOST, SIGNING_KEY_FILE=str(key)) as server,
        open_shop(server.environment["DATABASE_URL"], key, server.url) as shop,
    ):
        yield server, shop


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda each: each.name)
def test_no_client_deletes_its_account_by_the_request_of_another(
    service: tuple[LiveServer, Shop], proxy: Proxy, tmp_path: Path
) -> None:
    server, shop = service
    user_id, headers = shop.person()
    with running_proxy(proxy, server.port, tmp_path) as port:
        for upgrade in ("websocket", "h2c", "anything") * 3:
            with Client(port) as attacker, Client(port) as victim:
                attacker.send(smuggled(f"DELETE /v1/users/{user_id}", upgrade))
                attacker.answer()
                profile = victim.ask("/v1/profile", headers)
                assert profile is not None
                assert (profile.status, json.loads(profile.body)["id"]) == (200, user_id)
