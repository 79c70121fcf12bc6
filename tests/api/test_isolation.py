"""Requests that run at once never see each other's caller, id or data (MISSION M3, M25)."""

import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import httpx
import pytest

from tests.api.accounts import (
    bearer,
    fresh_address,
    fresh_email,
    make_account,
    read_account,
    token_for,
)
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M3"), pytest.mark.mission("M25")]

PEOPLE = 20
REQUESTS = 300
THREADS = 16


class Somebody:
    """One of many who use the service at once. Each method asks, and knows what has to come."""

    def __init__(self, service: Service, client: httpx.Client) -> None:
        self.user = make_account(service)
        self._client = client
        self._token = bearer(token_for(service, self.user))

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Send a request with an id of its own, which has to come back."""
        request_id = uuid.uuid4().hex
        headers = {**self._token, **fresh_address(), "X-Request-ID": request_id}
        answer = self._client.request(method, path, json=body, headers=headers)
        assert answer.headers["x-request-id"] == request_id
        if answer.status_code >= 400:
            assert answer.json()["instance"] == request_id
        return answer

    def reads_their_profile(self) -> None:
        found = self._ask("GET", "/v1/profile").json()
        assert (found["id"], found["email"]) == (self.user.id, self.user.email)

    def reads_their_account(self) -> None:
        found = self._ask("GET", f"/v1/users/{self.user.id}").json()
        assert (found["id"], found["email"]) == (self.user.id, self.user.email)

    def is_told_of_nobody_else(self) -> None:
        assert self._ask("GET", f"/v1/users/{self.user.id + 1}").status_code == 404

    def renames_themself(self) -> None:
        name = f"{self.user.id} {uuid.uuid4()}"
        changed = self._ask("PATCH", "/v1/profile", {"name": name}).json()
        assert (changed["id"], changed["name"]) == (self.user.id, name)

    def is_refused_a_change(self) -> None:
        answer = self._ask("PATCH", f"/v1/users/{self.user.id}", {"role": "admin"})
        assert answer.status_code == 403

    def sends_a_body_that_does_not_fit(self) -> None:
        answer = self._ask("PATCH", "/v1/profile", {"name": 1, "x": 2})
        assert answer.status_code == 422
        assert {error["pointer"] for error in answer.json()["errors"]} == {"", "/name"}

    def divides(self) -> None:
        answer = self._ask("GET", f"/v1/divide?a={self.user.id}&b=1")
        assert answer.json() == {"result": float(self.user.id)}

    def signs_in(self) -> None:
        body = {"email": self.user.email, "password": PASSWORD}
        token = self._ask("POST", "/v1/auth/token", body).json()["access_token"]
        found = self._client.get("/v1/profile", headers=bearer(token)).json()
        assert found["id"] == self.user.id

    def registers_another(self) -> None:
        body = {"name": f"Child of {self.user.id}", "email": fresh_email()}
        made = self._ask("POST", "/v1/users", body).json()
        assert (made["name"], made["email"]) == (body["name"], body["email"])


Deed: TypeAlias = Callable[[Somebody], None]
DEEDS: tuple[Deed, ...] = (
    Somebody.reads_their_profile,
    Somebody.reads_their_account,
    Somebody.is_told_of_nobody_else,
    Somebody.renames_themself,
    Somebody.is_refused_a_change,
    Somebody.sends_a_body_that_does_not_fit,
    Somebody.divides,
    Somebody.registers_another,
)


def test_many_people_at_once_see_only_what_is_theirs(
    service: Service, client: httpx.Client
) -> None:
    chance = random.Random(25)  # noqa: S311 - the same requests each time, not a secret.
    people = [Somebody(service, client) for _ in range(PEOPLE)]
    works = [(chance.choice(DEEDS), chance.choice(people)) for _ in range(REQUESTS)]
    # Signing in is dear, so it has a smaller part.
    works += [(Somebody.signs_in, person) for person in people]
    chance.shuffle(works)
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(deed, person) for deed, person in works]:
            done.result()
    # What each of them wrote last went to their own row, and to no other.
    for person in people:
        row = read_account(service, person.user.id)
        assert row.name == "Alice Adams" or row.name.startswith(f"{person.user.id} ")


def test_a_request_that_fails_leaves_nothing_for_the_next_on_its_thread(
    service: Service, client: httpx.Client
) -> None:
    """One connection, and in the service mostly one thread: what a failure left would be met."""
    administrator = bearer(token_for(service, make_account(service, role="admin")))
    person = Somebody(service, client)
    for _ in range(20):
        assert client.get("/v1/users", headers=administrator).status_code == 200
        person.is_refused_a_change()
        assert client.get("/v1/profile").status_code == 401
        person.sends_a_body_that_does_not_fit()
        assert client.get("/v1/users").status_code == 401
        person.is_told_of_nobody_else()
        person.reads_their_profile()


def test_requests_without_an_id_get_one_each(client: httpx.Client) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: client.get("/health"), range(100)))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 100
