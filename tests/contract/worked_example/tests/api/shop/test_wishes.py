"""Wishlists over HTTP."""

import httpx

from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.factories import make_account, make_product
from tests.service import Service


def wishes(client: httpx.Client, headers: dict[str, str]) -> list[int]:
    return [item["id"] for item in client.get("/v1/wishes", headers=headers).json()["items"]]


def test_a_wishlist_belongs_to_its_owner(service: Service, client: httpx.Client) -> None:
    alice = bearer(token_for(service, make_account(service)))
    bob = bearer(token_for(service, make_account(service)))
    kite, ball = (make_product(service.app.database).id for _ in range(2))
    for product in (ball, kite, kite):
        added = client.post("/v1/wishes", json={"product_id": product}, headers=alice)
        assert (added.status_code, added.content) == (204, b"")
    assert wishes(client, alice) == [kite, ball]
    assert wishes(client, bob) == []


def test_an_unknown_product_cannot_be_added(service: Service, client: httpx.Client) -> None:
    headers = bearer(token_for(service, make_account(service)))
    missing = client.post("/v1/wishes", json={"product_id": 987654321}, headers=headers)
    assert (missing.status_code, problem(missing)) == (422, "unknown-product")
