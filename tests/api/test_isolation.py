"""Requests that run at once never meet, and neither do two applications (MISSION M2, M3, M25)."""

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.accounts import bearer, fresh_address, fresh_email, make_account, token_for
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.service import PASSWORD, Service, running

PEOPLE = 20
REQUESTS = 400
THREADS = 24

Visit = Callable[[httpx.Client, "Somebody", dict[str, str]], None]


class Somebody:
    """One of many who use the service at once, and knows what they must see."""

    def __init__(self, service: Service, number: int) -> None:
        self.user = make_account(service, name=f"Person {number}")
        self.headers = bearer(token_for(service, self.user))
        self.path = f"/v1/users/{self.user.id}"

    def reads_their_profile(self, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
        answer = client.get("/v1/profile", headers=self.headers | headers)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["id"], answer.json()["email"]) == (self.user.id, self.user.email)
        return answer

    def reads_themself(self, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
        answer = client.get(self.path, headers=self.headers | headers)
        assert answer.json()["email"] == self.user.email
        return answer

    def is_told_of_nobody_else(
        self, client: httpx.Client, headers: dict[str, str]
    ) -> httpx.Response:
        answer = client.get(f"/v1/users/{self.user.id + 1}", headers=self.headers | headers)
        assert answer.status_code == 404
        assert problem(answer) == "not-found"
        return answer

    def renames_themself(self, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
        name = f"{self.user.id} {uuid.uuid4()}"
        answer = client.patch("/v1/profile", json={"name": name}, headers=self.headers | headers)
        assert (answer.json()["id"], answer.json()["name"]) == (self.user.id, name)
        return answer

    def sends_a_wrong_body(self, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
        answer = client.patch("/v1/profile", json={"role": "admin"}, headers=self.headers | headers)
        assert answer.status_code == 422
        assert problem(answer) == "invalid-body"
        return answer

    def divides(self, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
        number = self.user.id
        answer = client.get(f"/v1/divide?a={number}&b=1", headers=headers | fresh_address())
        assert answer.json() == {"result": float(number)}
        return answer
