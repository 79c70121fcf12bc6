"""A shop whose customers, follower and webhook endpoint carry on while something fails."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random

import httpx
from typing_extensions import override

from models.access.secret_box import SecretBox
from models.webhooks.webhook_endpoint import WebhookEndpoint
from tests.api.server.test_work import make_due
from tests.faults.live_shop import Shop, repeating
from tests.faults.test_killed import (
    CUSTOMERS,
    SETTINGS,
    Customer,
    Step,
    assert_all_is_as_acknowledged,
    resolve_what_was_lost,
)
from tests.faults.test_webhooks_killed import expire_leases, statuses
from tests.models.feeds import check_replay, read_feed
from tests.servers.webhook_receiver import Receiver, wait_for

_SETTLE_SECONDS = 120.0


class Patient(Customer):
    """A customer who repeats a request that the service could not finish."""

    @override
    def act(self) -> None:
        """Send one request."""
        with suppress(httpx.TransportError):
            self.send(self.lost or self._next())

    @override
    def _learn(self, step: Step, answer: httpx.Response) -> None:
        unfinished = answer.status_code == 409 and answer.json()["code"] != "illegal-transition"
        if answer.status_code in {429, 503} or unfinished:
            self.lost = step
            time.sleep(0.1)
        else:
            super()._learn(step, answer)


class Follower:
    """A program that follows the feed."""

    def __init__(self, shop: Shop, url: str) -> None:
        self.ids: list[str] = []
        self._client, self._url = shop.client, f"{url}/v1/events"
        self._headers = shop.person(admin=True)[1]
        self._after: str | None = None

    def read(self) -> None:
        """Read one page if the service responds."""
        query: dict[str, str | int] = {"wait": 1, "limit": 100}
        if self._after is not None:
            query["after"] = self._after
        with suppress(httpx.TransportError):
            answer = self._client.get(self._url, params=query, headers=self._headers)
            if answer.status_code == 200:
                self.ids += [each["id"] for each in answer.json()["items"]]
                self._after = answer.json()["next_after"]
                return
        time.sleep(0.1)


def keep_busy(
    shop: Shop,
    url: str,
    receiver: Receiver,
    disturb: Callable[[], str],
    others: Sequence[Callable[[], None]] = (),
) -> str:
    """Keep a shop busy while it is disturbed, and check that nothing is lost or duplicated.

    `others` are called repeatedly meanwhile. Returns what `disturb` returns, and the counts.
    """
    box = SecretBox(shop.keys.derive("webhooks"))
    shop.database.transact(
        partial(WebhookEndpoint.create, box=box, values={"url": f"{receiver.url}/"})
    )
    product = shop.product(1_000_000, shop.person(admin=True)[0])
    customers: list[Customer] = [
        Patient(
            shop,
            url,
            *shop.person(),
            shop.person(admin=True)[1],
            product,
            Random(number),  # noqa: S311 - no secret.
        )
        for number in range(CUSTOMERS)
    ]
    follower = Follower(shop, url)
    with repeating([*(each.act for each in customers), follower.read, *others]):
        disturbed = disturb()
    while any(each.lost for each in customers):
        resolve_what_was_lost(customers)
    time.sleep(int(SETTINGS["RESERVATION_SECONDS"]) + 1)
    wait_for(partial(_is_settled, shop), _SETTLE_SECONDS)
    assert_all_is_as_acknowledged(shop, customers)
    events = read_feed(shop.database)
    check_replay(shop.database, events)
    ids = [str(each.id) for each in events]
    assert len(ids) == len(set(ids)), "an event is in the feed twice"
    while len(follower.ids) < len(ids):
        follower.read()
    assert follower.ids == ids, "the follower saw other events than the feed has"
    sent = Counter(_received_ids(receiver))
    assert sent.keys() == set(ids), "the events delivered are not those of the feed"
    return (
        f"{disturbed}, {len(shop.statuses())} orders, "
        f"{len(ids)} events, each once in the feed and delivered, "
        f"{sum(sent.values()) - len(sent)} of them again with the same id"
    )


def _is_settled(shop: Shop) -> bool:
    """Whether nothing is left to expire or deliver. Ends the leases of killed processes."""
    make_due(shop.database)
    expire_leases(shop.database)
    time.sleep(1)
    left = statuses(shop.database).keys() - {"delivered"}
    return not left and "pending" not in shop.statuses().values()


def _received_ids(receiver: Receiver) -> list[str]:
    """Return the ids of the received events, which their bodies repeat."""
    bodies: dict[str, bytes] = {}
    for each in receiver.received:
        event_id = each.headers["Webhook-Id"]
        assert json.loads(each.body)["id"] == event_id
        assert bodies.setdefault(event_id, each.body) == each.body
    return [each.headers["Webhook-Id"] for each in receiver.received]
