"""The event feed over HTTP."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.api.resources import BUNDLE
from tests.api.shopping import Shopper
from tests.factories import make_account, make_product
from tests.service import Service

pytestmark = pytest.mark.mission("M31")

EVENTS = "/v1/events"
SCHEMAS = BUNDLE["components"]["schemas"]


def read(client: httpx.Client, headers: dict[str, str], **query: object) -> dict[str, Any]:
    given = {name: value for name, value in query.items() if value is not None}
    answer = client.get(EVENTS, params=given, headers=headers)  # type: ignore[arg-type]  # as the test says.
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def newest(client: httpx.Client, headers: dict[str, str]) -> str | None:
    """Read the feed to its end, once everything written so far is in it."""
    after: str | None = None
    while True:
        page = read(client, headers, limit=100, wait=1, after=after)
        if page["next_after"] == after:
            return after
        after = page["next_after"]


@pytest.fixture(scope="module")
def admin(service: Service) -> dict[str, str]:
    return bearer(token_for(service, make_account(service, role="admin")))


def test_types_name_the_actions_and_the_data_of_their_subjects() -> None:
    types = SCHEMAS["EventType"]["enum"]
    assert {each.partition(".")[0] for each in types} == set(SCHEMAS["EventData"]["properties"])
    for schema, prefix in (("OrderEventAction", "order"), ("StockEntryKind", "stock")):
        declared = {f"{prefix}.{each}" for each in SCHEMAS[schema]["enum"]}
        assert declared == {each for each in types if each.startswith(f"{prefix}.")}


def test_a_change_appears_in_the_feed(
    service: Service, client: httpx.Client, admin: dict[str, str]
) -> None:
    after = newest(client, admin)
    product = make_product(service.app.database, stock=0)
    shopper = Shopper(service, client, admin=True)
    changed = client.patch(
        f"/v1/products/{product.id}", json={"active": False}, headers=shopper.headers
    )
    found: list[dict[str, Any]] = []
    while len(found) < 2:
        page = read(client, admin, after=after, wait=10, type=["product.create", "product.update"])
        found += page["items"]
        after = page["next_after"]
    assert [event["type"] for event in found] == ["product.create", "product.update"]
    assert {event["subject"] for event in found} == {f"products/{product.id}"}
    assert f'"{found[1]["version"]}"' == changed.headers["ETag"]
    assert found[1]["data"] == {
        "account": None,
        "stock": None,
        "order": None,
        "product": {
            "id": product.id,
            "sku": product.sku,
            "name": product.name,
            "price": {"amount": product.price_amount, "currency": product.currency},
            "active": False,
        },
    }


def test_readers_wait_without_holding_a_thread(
    service: Service, client: httpx.Client, admin: dict[str, str]
) -> None:
    after = newest(client, admin)
    readers = service.app.settings.threads + 4
    with ThreadPoolExecutor(readers) as pool:
        waiting = [
            pool.submit(read, service.client(), admin, after=after, wait=20) for _ in range(readers)
        ]
        # All threads together would be held by the readers that wait.
        assert client.get("/v1/profile", headers=admin).status_code == 200
        assert not any(each.done() for each in waiting)
        begun = time.monotonic()
        make_product(service.app.database, stock=0)
        pages = [each.result() for each in waiting]
    assert time.monotonic() - begun < 15
    assert all(page["items"] for page in pages)


def test_a_reader_whose_access_ends_while_waiting_reads_nothing(
    service: Service, client: httpx.Client, admin: dict[str, str]
) -> None:
    own = bearer(token_for(service, make_account(service, role="admin")))
    after = newest(client, admin)
    assert client.get(EVENTS, headers=own).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            service.client().get, EVENTS, params={"after": after, "wait": 2}, headers=own
        )
        # Signing out writes no event, so the reader goes on waiting.
        assert client.post("/v1/auth/logout", headers=own).status_code == 204
        answer = waiting.result()
    assert (answer.status_code, problem(answer)) == (401, "not-authenticated")


def test_events_that_are_not_kept_are_gone(client: httpx.Client, admin: dict[str, str]) -> None:
    unknown = "0198c1a6-2d4f-7b60-8c1d-4e7f90a1b2c3"
    answer = client.get(EVENTS, params={"after": unknown}, headers=admin)
    assert (answer.status_code, problem(answer)) == (410, "events-expired")
    oldest = read(client, admin, limit=1)["items"][0]["id"]
    assert answer.json()["oldest"] == oldest
