"""Tokens end with the state that they depend on: in every process, within a second."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx
import pytest

from models.identity.user import Role, User
from tests.api.accounts import bearer, edit_account, read_account, token_for
from tests.api.answers import problem
from tests.api.clocks import Clock
from tests.api.hashing import hashing_held, sign_in_wrongly
from tests.databases import KINDS, make_database_url
from tests.factories import make_account
from tests.live import running_server
from tests.service import PASSWORD, Service, running

pytestmark = [pytest.mark.mission("M12"), pytest.mark.mission("M18")]

SECOND = 1.0
NEW_PASSWORD = "eleven quiet harbours"

Headers: TypeAlias = dict[str, str]


@dataclass
class Replicas:
    """Two processes of the service on one database: that of the tests, and another."""

    service: Service
    first: httpx.Client
    second: httpx.Client

    def account(self, *, role: Role = "user") -> tuple[User, Headers]:
        """An account with a token that both processes have just believed."""
        user = make_account(self.service, role=role)
        headers = bearer(token_for(self.service, user))
        for client in (self.first, self.second):
            assert client.get("/v1/profile", headers=headers).status_code == 200
        return user, headers


@pytest.fixture(scope="module", params=KINDS)
def replicas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with make_database_url(request.param, folder) as url, running(folder, url) as service:
        settings = service.app.settings
        with (
            running_server(
                folder,
                APP_ENV="test",
                DATABASE_URL=url,
                SIGNING_KEY_FILE=str(settings.signing_key_file),
                PUBLIC_URL=settings.public_url,
            ) as other,
            httpx.Client(base_url=service.url, timeout=30) as first,
            httpx.Client(base_url=other.url, timeout=30) as second,
        ):
            yield Replicas(service, first, second)


Change: TypeAlias = Callable[[httpx.Client, str, Headers, Headers], httpx.Response]
"""A change of the account at a path, by its owner's headers or an administrator's."""


def _by_administrator(**changes: object) -> Change:
    return lambda client, path, _, boss: client.patch(path, json=changes, headers=boss)


def _by_owner(**changes: object) -> Change:
    proof = {"current_password": PASSWORD}
    return lambda client, path, own, _: client.patch(path, json=changes | proof, headers=own)


ENDING: Mapping[str, tuple[Role, Change]] = {
    "disabled": ("user", _by_administrator(active=False)),
    "promoted": ("user", _by_administrator(role="admin")),
    "demoted": ("admin", _by_administrator(role="user")),
    "password changed": ("user", _by_owner(password=NEW_PASSWORD)),
    "signed out everywhere": (
        "user",
        lambda client, _, own, __: client.post("/v1/auth/logout?everywhere=true", headers=own),
    ),
    "signed out by an administrator": (
        "user",
        lambda client, path, _, boss: client.post(f"{path}/logout", headers=boss),
    ),
    "new password demanded": ("user", _by_administrator(password_change_required=True)),
    "deleted": ("user", lambda client, path, _, boss: client.delete(path, headers=boss)),
    "left": ("user", lambda client, path, own, _: client.delete(path, headers=own)),
}


def test_ending_a_token_takes_effect_everywhere_within_a_second(replicas: Replicas) -> None:
    _, boss = replicas.account(role="admin")
    ended = {}
    for name, (role, change) in ENDING.items():
        user, ended[name] = replicas.account(role=role)
        # The change is made in another session: the one of a new password goes on.
        elsewhere = bearer(token_for(replicas.service, user))
        answer = change(replicas.first, f"/v1/users/{user.id}", elsewhere, boss)
        assert answer.is_success, f"{name}: {answer.text}"
    time.sleep(SECOND)
    for name, headers in ended.items():
        for client in (replicas.first, replicas.second):
            answer = client.get("/v1/profile", headers=headers)
            assert answer.status_code == 401, name
            assert problem(answer) == "not-authenticated"


def test_an_ended_token_stays_ended(replicas: Replicas) -> None:
    _, boss = replicas.account(role="admin")
    ended = []
    for away, back in (
        ({"active": False}, {"active": True}),
        ({"role": "admin"}, {"role": "user"}),
    ):
        user, own = replicas.account()
        for change in (away, back):
            path = f"/v1/users/{user.id}"
            assert replicas.first.patch(path, json=change, headers=boss).status_code == 200
        ended.append(own)
    time.sleep(SECOND)
    for own in ended:
        for client in (replicas.first, replicas.second):
            assert client.get("/v1/profile", headers=own).status_code == 401


def test_unrelated_changes_keep_a_token_valid_everywhere(replicas: Replicas) -> None:
    _, boss = replicas.account(role="admin")
    user, own = replicas.account()
    path = f"/v1/users/{user.id}"
    for body, headers in (
        ({"name": "Ada King"}, own),
        ({"name": "Ada Lovelace"}, boss),
        ({"role": "user"}, boss),
        ({"active": True}, boss),
    ):
        assert replicas.first.patch(path, json=body, headers=headers).status_code == 200
    time.sleep(SECOND)
    for client in (replicas.first, replicas.second):
        assert client.get("/v1/profile", headers=own).status_code == 200


def test_a_new_token_is_valid_at_once_despite_cached_states(replicas: Replicas) -> None:
    user, own = replicas.account()
    changed = replicas.first.patch(
        "/v1/profile",
        json={"password": NEW_PASSWORD, "current_password": PASSWORD},
        headers=own,
    )
    assert changed.status_code == 200
    for client in (replicas.first, replicas.second):
        credentials = {"email": user.email, "password": NEW_PASSWORD}
        token = client.post("/v1/auth/token", json=credentials).json()["access_token"]
        assert client.get("/v1/profile", headers=bearer(token)).status_code == 200


def test_a_deleted_user_is_refused_at_once(replicas: Replicas) -> None:
    for method, path in (("GET", "/v1/profile"), ("PATCH", "/v1/profile")):
        user, own = replicas.account()
        assert replicas.first.delete(f"/v1/users/{user.id}", headers=own).status_code == 204
        body = {"name": "Nobody"} if method == "PATCH" else None
        for client in (replicas.first, replicas.second):
            answer = client.request(method, path, json=body, headers=own)
            assert answer.status_code == 401, answer.text


LOST: Mapping[str, dict[str, object]] = {"demoted": {"role": "user"}, "disabled": {"active": False}}


@pytest.mark.parametrize("lost", LOST)
def test_a_slow_request_does_not_keep_revoked_rights(replicas: Replicas, lost: str) -> None:
    _, boss = replicas.account(role="admin")
    user, own = replicas.account(role="admin")
    path = f"/v1/users/{user.id}"
    with _half_sent(replicas.service.url, path, {"role": "admin", "active": True}, own) as finish:
        assert replicas.first.patch(path, json=LOST[lost], headers=boss).status_code == 200
        time.sleep(SECOND)
        assert replicas.first.get("/v1/profile", headers=own).status_code == 401
        assert finish() == 401
    after = read_account(replicas.service, user.id)
    assert {name: getattr(after, name) for name in LOST[lost]} == LOST[lost]


def test_a_queued_request_does_not_keep_revoked_rights(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, own = replicas.account(role="admin")
    hashing = replicas.service.app.settings.hashing_threads
    # Only changes of a password wait for the threads that hash.
    asked = {"role": "admin", "password": NEW_PASSWORD, "current_password": PASSWORD}
    with hashing_held(monkeypatch) as held, ThreadPoolExecutor(hashing + 1) as pool:
        for _ in range(hashing):
            pool.submit(sign_in_wrongly, replicas.first)
        held.wait_for(hashing)
        raised = pool.submit(replicas.first.patch, f"/v1/users/{user.id}", json=asked, headers=own)
        time.sleep(SECOND / 4)
        edit_account(
            replicas.service, user.id, lambda session, row: row.change(session, role="user")
        )
        time.sleep(SECOND)
        held.let_go()
        assert raised.result().status_code == 401
    assert read_account(replicas.service, user.id).role == "user"


@contextmanager
def _half_sent(
    url: str, path: str, members: Mapping[str, object], headers: Headers
) -> Iterator[Callable[[], int]]:
    """Send a PATCH but for the end of its body; what is given sends it and reads the status."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    body = json.dumps(members).encode()
    lines = [
        f"PATCH {path} HTTP/1.1",
        "Host: concord.example",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    with closing(socket.create_connection((host, port), timeout=30)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body[:3])

        def finish() -> int:
            connection.sendall(body[3:])
            answer = HTTPResponse(connection)
            answer.begin()
            return answer.status

        yield finish


def test_a_verified_token_is_not_cached_beyond_its_expiry(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    _, own = replicas.account()
    monkeypatch.setattr("api.credentials.access_tokens.time", clock)
    clock.ahead = 3590
    assert replicas.first.get("/v1/profile", headers=own).status_code == 200
    clock.ahead = 3601
    assert replicas.first.get("/v1/profile", headers=own).status_code == 401
