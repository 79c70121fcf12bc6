"""Every type of event is written, and its schema in the contract describes it and no other type."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from models.orders.order_erasure import forget_old_orders
from tests.api.resources import BUNDLE
from tests.event_schemas import check_event, validator_of
from tests.factories import STATUSES, make_order, make_product
from tests.models.actions import (
    adjust_stock,
    archive_product,
    bounce,
    change_product,
    change_user,
    erase_user,
    pay,
    reduce,
    take_back,
    update,
)
from tests.servers.webhook_receiver import Receiver, receiving, wait_for
from tests.service import Service

pytestmark = pytest.mark.mission("M31")

TYPES = set(BUNDLE["components"]["schemas"]["EventType"]["enum"])


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def change_everything(service: Service) -> None:
    """Make a change of each type of event."""
    database = service.app.database
    person = service.user()
    change_user(database, person.id, name="Ada Lovelace")
    erase_user(database, person.id)
    product = make_product(database)
    adjust_stock(database, product, -1)
    change_product(database, product, name="Tricycle")
    archive_product(database, product)
    orders = {status: make_order(database, status=status) for status in STATUSES}
    update(database, orders["pending"], note="Ring twice.")
    pay(database, orders["pending"])
    bounce(database, orders["pending"])
    bicycle = make_product(database)
    reduce(database, make_order(database, lines=[(bicycle, 2)], status="paid"), [(bicycle, 1)])
    take_back(database, orders["shipped"])
    forget_old_orders(database, timedelta(days=-1))


def read_events(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """Read the feed to its end, once everything written so far is in it."""
    query = {"limit": "100", "wait": "2"}
    while items := client.get("/v1/events", params=query).json()["items"]:
        yield from items
        query["after"] = items[-1]["id"]


@pytest.fixture(scope="module")
def events(service: Service, receiver: Receiver) -> list[dict[str, Any]]:
    """All events of a service, as the feed returns them and as the receiver gets them."""
    client = service.admin().client
    created = client.post("/v1/webhook-endpoints", json={"url": f"{receiver.url}/all"})
    assert created.status_code == 201, created.text
    change_everything(service)
    found = list(read_events(client))
    ping = client.post(f"/v1/webhook-endpoints/{created.json()['id']}/ping")
    assert ping.status_code == 202
    wanted = TYPES | {"webhook.ping"}
    wait_for(lambda: wanted <= {event["type"] for event in received(receiver)})
    return found + received(receiver)


def received(receiver: Receiver) -> list[dict[str, Any]]:
    """Return all events that the receiver got."""
    return [json.loads(each.body) for each in receiver.of("/all")]


def test_every_type_has_a_schema_that_its_events_match(events: list[dict[str, Any]]) -> None:
    for event in events:
        check_event(event)
    assert {event["type"] for event in events} == TYPES | {"webhook.ping"}


def test_an_event_matches_the_schema_of_no_other_type(events: list[dict[str, Any]]) -> None:
    for event in {event["type"]: event for event in events}.values():
        matching = {each for each in TYPES if validator_of(each).is_valid(event)}
        assert matching == {event["type"]} & TYPES


def test_each_schema_rejects_values_of_other_types(events: list[dict[str, Any]]) -> None:
    """Members and states that only other types of the same subject have are invalid."""
    by_type = {event["type"]: event for event in events}
    for wrong, name, keys, value in (
        ("order.ship", "order", "amount", by_type["order.pay"]["data"]["order"]["amount"]),
        ("order.pay", "order", "amount", None),
        ("order.create", "order", "status", "delivered"),
        ("order.expire", "order", "status", "paid"),
        ("stock.adjustment", "stock", "order_id", "0198c1a3-0f4e-7a2b-9c3d-1e5f60718293"),
        ("stock.release", "stock", "order_id", None),
        ("stock.release", "stock", "reserved", 2),
        ("product.archive", "product", "active", True),
    ):
        event = by_type[wrong]
        check_event(event)
        changed = {**event["data"], name: {**event["data"][name], keys: value}}
        assert not validator_of(wrong).is_valid({**event, "data": changed})
