"""A customer over HTTP: requests to order, with an idempotency key where one is needed."""

import itertools
import uuid

import httpx

from tests.api.accounts import bearer, token_for
from tests.factories import Person, make_account
from tests.service import Service

_numbers = itertools.count(1)


class Shopper:
    """A person with an account, and what they ask the service for."""

    def __init__(self, service: Service, client: httpx.Client, *, admin: bool = False) -> None:
        user = make_account(service, role="admin" if admin else "user")
        self.id = user.id
        self.person = Person(user.id, is_admin=admin)
        self.headers = bearer(token_for(service, user))
        self._client = client

    def get(self, url: str, **headers: str) -> httpx.Response:
        return self._client.get(url, headers=self.headers | headers)

    def patch(self, url: str, body: object, **headers: str) -> httpx.Response:
        return self._client.patch(url, json=body, headers=self.headers | headers)

    def delete(self, url: str, **headers: str) -> httpx.Response:
        return self._client.delete(url, headers=self.headers | headers)

    def post(self, url: str, body: object = None, *, key: str | None = None) -> httpx.Response:
        """Send a body; without a key of the caller's, with one that nobody has used."""
        headers = self.headers | {"Idempotency-Key": key or uuid.uuid4().hex}
        return self._client.post(url, json=body, headers=headers)

    def act(self, order: str, action: str, body: object = None) -> httpx.Response:
        """Take an action on an order."""
        return self.post(f"/v1/orders/{order}/{action}", body)


def money(amount: int, currency: str = "EUR") -> dict[str, object]:
    """Write an amount of money."""
    return {"amount": amount, "currency": currency}


def payment(amount: int, currency: str = "EUR", reference: str | None = None) -> dict[str, object]:
    """Write a payment, by default one that was never recorded."""
    reference = reference or f"payment {next(_numbers)}"
    return {"amount": money(amount, currency), "method": "card", "reference": reference}


def lines(*asked: tuple[int, int]) -> dict[str, object]:
    """Write an order of some products and quantities."""
    return {"lines": [{"product_id": each, "quantity": quantity} for each, quantity in asked]}


SHIPMENT = {"carrier": "Post", "tracking_number": "RM123456785GB"}
