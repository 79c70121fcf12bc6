"""Concurrent requests never see each other's caller, id or data (MISSION M3, M25)."""

import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import httpx
import pytest

from models.catalogue.product import Product
from tests.api.accounts import bearer, fresh_address, read_account, token_for
from tests.factories import Person, fresh_email, make_account, make_order, make_product
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M3"), pytest.mark.mission("M25")]

PEOPLE = 20
REQUESTS = 500
THREADS = 16


class Somebody:
    """One of many who use the service at once. Each method asks, and knows what has to come."""

    def __init__(self, service: Service, client: httpx.Client, product: Product) -> None:
        self.user = make_account(service)
        self._client = client
        self._token = bearer(token_for(service, self.user))
        lines = [(product, 1)]
        self._lines = [{"product_id": product.id, "quantity": 1}]
        database = service.app.database
        self._order = make_order(database, buyer=Person(self.user.id), lines=lines).id
        self._foreign_order = make_order(database, lines=lines).id

    def _ask(self, method: str, path: str, body: object = None, key: str = "") -> httpx.Response:
        """Send a request with an id of its own, which has to come back."""
        request_id = uuid.uuid4().hex
        headers = {**self._token, **fresh_address(), "X-Request-ID": request_id}
        headers |= {"Idempotency-Key": key} if key else {}
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

    def orders_something(self) -> None:
        note = f"{self.user.id} {uuid.uuid4()}"
        body = {"lines": self._lines, "note": note}
        made = self._ask("POST", "/v1/orders", body, key=uuid.uuid4().hex).json()
        assert (made["user_id"], made["note"]) == (self.user.id, note)

    def orders_something_again(self) -> None:
        """Everybody has the same key, and an order of their own under it."""
        answer = self._ask("POST", "/v1/orders", {"lines": self._lines}, key="the-same")
        # The first time another thread may be about it.
        if answer.status_code != 409:
            assert answer.json()["user_id"] == self.user.id

    def reads_their_order(self) -> None:
        found = self._ask("GET", f"/v1/orders/{self._order}").json()
        assert (found["id"], found["user_id"]) == (str(self._order), self.user.id)

    def lists_their_orders(self) -> None:
        found = self._ask("GET", "/v1/orders?limit=100").json()["items"]
        assert {order["user_id"] for order in found} == {self.user.id}

    def changes_their_order(self) -> None:
        note = f"{self.user.id} {uuid.uuid4()}"
        changed = self._ask("PATCH", f"/v1/orders/{self._order}", {"note": note}).json()
        assert (changed["user_id"], changed["note"]) == (self.user.id, note)

    def is_told_of_no_other_order(self) -> None:
        path = f"/v1/orders/{self._foreign_order}"
        answers = [
            self._ask("GET", path),
            self._ask("GET", f"{path}/events"),
            self._ask("PATCH", path, {"note": "mine"}),
            self._ask("POST", f"{path}/cancel", key=uuid.uuid4().hex),
        ]
        assert {answer.status_code for answer in answers} == {404}


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
    Somebody.orders_something,
    Somebody.orders_something_again,
    Somebody.reads_their_order,
    Somebody.lists_their_orders,
    Somebody.changes_their_order,
    Somebody.is_told_of_no_other_order,
)


def test_concurrent_users_see_only_their_own_data(service: Service, client: httpx.Client) -> None:
    chance = random.Random(25)  # noqa: S311 - the same requests each time, not a secret.
    product = make_product(service.app.database, stock=REQUESTS)
    people = [Somebody(service, client, product) for _ in range(PEOPLE)]
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


def test_a_failed_request_leaves_nothing_on_its_thread(
    service: Service, client: httpx.Client
) -> None:
    """One connection, and in the service mostly one thread: what a failure left would be met."""
    administrator = bearer(token_for(service, make_account(service, role="admin")))
    person = Somebody(service, client, make_product(service.app.database))
    for _ in range(20):
        assert client.get("/v1/users", headers=administrator).status_code == 200
        person.is_refused_a_change()
        assert client.get("/v1/profile").status_code == 401
        person.sends_a_body_that_does_not_fit()
        assert client.get("/v1/users").status_code == 401
        person.is_told_of_nobody_else()
        person.is_told_of_no_other_order()
        person.reads_their_profile()


def test_each_request_without_an_id_gets_its_own(client: httpx.Client) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: client.get("/health"), range(100)))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 100
