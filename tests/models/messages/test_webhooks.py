"""Deliveries of events: made from the feed, leased, repeated, given up and purged."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.access.secret_box import SecretBox
from models.errors import TooManyWebhooks
from models.events.feed import place_events
from models.messages.message import Message
from models.storage.base import utcnow
from models.storage.batches import change_batch
from models.storage.database import Database
from models.webhooks.attempts import (
    RequestBatch,
    create_deliveries,
    due_endpoints,
    lease_requests,
    record_outcomes,
)
from models.webhooks.delivery import PING, AttemptOutcome, Delivery
from models.webhooks.webhook_endpoint import WebhookEndpoint
from tests.factories import make_product, make_user

pytestmark = pytest.mark.mission("M31")

BOX = SecretBox(bytes(32))
REFUSED = AttemptOutcome(None, "no connection: refused")


def make_endpoint(database: Database) -> UUID:
    create = partial(WebhookEndpoint.create, box=BOX, values={"url": "https://shop.example/"})
    return database.transact(create).id


def change(database: Database, webhook_id: UUID, *, active: bool) -> None:
    database.transact(
        lambda session: WebhookEndpoint.locked(session, webhook_id).change({"active": active})
    )


def follow_feed(database: Database) -> None:
    while place_events(database):
        pass
    while create_deliveries(database):
        pass


def take(database: Database, webhook_id: UUID) -> RequestBatch | None:
    return database.transact(partial(lease_requests, box=BOX, webhook_id=webhook_id))


def record(
    database: Database, webhook_id: UUID, batch: RequestBatch, outcome: AttemptOutcome
) -> bool:
    outcomes = dict.fromkeys(batch.requests, outcome)
    return database.transact(partial(record_outcomes, webhook_id=webhook_id, outcomes=outcomes))


def deliveries(database: Database, webhook_id: UUID) -> Sequence[Delivery]:
    return database.read(
        lambda reader: Delivery.page(reader, webhook_id, after=None, limit=100).items
    )


def age(database: Database, by: timedelta) -> None:
    """Let time pass for all endpoints and pending deliveries."""
    past, due = utcnow() - by, utcnow() - timedelta(seconds=1)

    def work(session: Session) -> None:
        pending = update(Delivery).where(Delivery.due_at.is_not(None))
        session.execute(pending.values(started_at=past, due_at=due))
        session.execute(update(WebhookEndpoint).values(active_since=past))
        failing = update(WebhookEndpoint).where(WebhookEndpoint.failing_since.is_not(None))
        session.execute(failing.values(failing_since=past))

    database.transact(work)


def attempt(database: Database, webhook_id: UUID, outcome: AttemptOutcome) -> bool:
    """Attempt what is due, and return whether the endpoint was switched off."""
    batch = take(database, webhook_id)
    assert batch is not None
    return record(database, webhook_id, batch, outcome)


def test_each_event_is_sent_once_to_each_endpoint(database: Database) -> None:
    make_product(database)
    follow_feed(database)
    first, second = make_endpoint(database), make_endpoint(database)
    made = {f"products/{make_product(database).id}" for _ in range(30)}
    for _ in range(2):
        follow_feed(database)
    for webhook_id in (first, second):
        bodies = []
        while batch := take(database, webhook_id):
            bodies += [each.body.decode() for each in batch.requests]
        for subject in made:
            assert sum(f'"subject":"{subject}"' in each for each in bodies) >= 1
        assert len(bodies) == len(set(bodies))


def test_a_leased_delivery_is_not_taken_again(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    assert database.read(due_endpoints) == [webhook_id]
    batch = take(database, webhook_id)
    assert batch is not None
    assert take(database, webhook_id) is None
    assert database.read(due_endpoints) == []
    age(database, timedelta())
    again = take(database, webhook_id)
    assert again is not None
    # The outcome of the first sender comes too late.
    record(database, webhook_id, batch, AttemptOutcome(204, ""))
    assert deliveries(database, webhook_id)[0].status == "pending"
    record(database, webhook_id, again, AttemptOutcome(204, ""))
    assert deliveries(database, webhook_id)[0].status == "delivered"


def test_a_finished_delivery_is_not_taken(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    attempt(database, webhook_id, AttemptOutcome(204, ""))
    # Redelivering while an attempt succeeded used to leave such rows.
    due = update(Delivery).values(due_at=utcnow())
    database.transact(lambda session: session.execute(due))
    assert database.read(due_endpoints) == []
    assert take(database, webhook_id) is None


def test_pauses_grow_up_to_three_hours_and_differ(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    pauses = []
    for _ in range(12):
        age(database, timedelta())
        attempt(database, webhook_id, AttemptOutcome(500, "no"))
        [tried] = deliveries(database, webhook_id)
        assert tried.due_at is not None
        pauses.append((tried.due_at - utcnow()).total_seconds())
    assert 1 < pauses[0] <= 5
    # The last six would be equal without jitter.
    assert all(5_000 < pause <= 10_800 for pause in pauses[-6:])
    assert max(pauses[-6:]) - min(pauses[-6:]) > 60


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(600, 590, 600), (90_000, 10_790, 10_800), (-600, 1, 5)]
)
def test_a_receiver_can_postpone_the_next_attempt(
    database: Database, asked: int, least: int, most: int
) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    not_before = utcnow() + timedelta(seconds=asked)
    attempt(database, webhook_id, AttemptOutcome(429, "later", not_before))
    [tried] = deliveries(database, webhook_id)
    assert tried.due_at is not None
    assert least < (tried.due_at - utcnow()).total_seconds() <= most


def test_an_endpoint_that_fails_for_three_days_is_switched_off(database: Database) -> None:
    admin, user = make_user(database, role="admin"), make_user(database)
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    assert not attempt(database, webhook_id, REFUSED)
    age(database, timedelta(days=3, seconds=1))
    assert attempt(database, webhook_id, REFUSED)
    endpoint = database.read(lambda reader: WebhookEndpoint.visible(reader, webhook_id))
    assert (endpoint.active, endpoint.failing_since is None) == (False, False)
    assert deliveries(database, webhook_id)[0].status == "failed"
    asked = select(Message.user_id).where(Message.kind == "webhook_disabled")
    told = database.read(lambda reader: reader.scalars(asked).all())
    assert admin.id in told
    assert user.id not in told


def test_one_event_that_fails_leaves_the_endpoint_active(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    age(database, timedelta(days=3, seconds=1))
    assert not attempt(database, webhook_id, REFUSED)
    assert deliveries(database, webhook_id)[0].status == "failed"


def test_the_response_410_switches_an_endpoint_off(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    assert attempt(database, webhook_id, AttemptOutcome(410, "gone"))
    assert deliveries(database, webhook_id)[0].status == "failed"


def test_an_endpoint_that_becomes_active_again_gets_three_days(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    assert not attempt(database, webhook_id, REFUSED)
    age(database, timedelta(days=3, seconds=1))
    for active in (False, True):
        change(database, webhook_id, active=active)
    assert not attempt(database, webhook_id, REFUSED)
    assert deliveries(database, webhook_id)[0].status == "pending"


def test_nothing_is_taken_for_an_inactive_endpoint(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    change(database, webhook_id, active=False)
    assert take(database, webhook_id) is None
    assert database.read(due_endpoints) == []


def test_old_deliveries_are_purged(database: Database) -> None:
    webhook_id = make_endpoint(database)
    database.transact(partial(Delivery.create, webhook_id=webhook_id, event_type=PING))
    change_batch(database, partial(Delivery.purge, timedelta(days=1)))
    assert deliveries(database, webhook_id)
    change_batch(database, partial(Delivery.purge, timedelta(seconds=-60)))
    assert not deliveries(database, webhook_id)


def test_replaced_secrets_sign_for_24_hours(database: Database) -> None:
    webhook_id = make_endpoint(database)

    def rotate(session: Session) -> list[bytes]:
        endpoint = WebhookEndpoint.locked(session, webhook_id)
        endpoint.rotate_secret(BOX)
        return endpoint.keys(BOX)

    def over(column: InstrumentedAttribute[datetime | None]) -> list[bytes]:
        database.transact(lambda s: s.execute(update(WebhookEndpoint).values({column: utcnow()})))
        return database.read(lambda reader: WebhookEndpoint.visible(reader, webhook_id)).keys(BOX)

    second, first = database.transact(rotate)
    third, *older = database.transact(rotate)
    assert older == [second, first]
    fourth, *older = database.transact(rotate)
    assert older == [third, first]
    assert over(WebhookEndpoint.oldest_until) == [fourth, third]
    fifth, *older = database.transact(rotate)
    assert older == [fourth, third]
    assert over(WebhookEndpoint.previous_until) == [fifth, third]
    assert over(WebhookEndpoint.oldest_until) == [fifth]
    assert database.transact(rotate)[1:] == [fifth]


def test_concurrent_requests_do_not_exceed_the_limit(database: Database) -> None:
    for _ in range(49):
        make_endpoint(database)
    with ThreadPoolExecutor(1) as pool:

        def create(session: Session) -> Future[UUID]:
            WebhookEndpoint.create(session, BOX, {"url": "https://shop.example/"})
            session.flush()
            another = pool.submit(make_endpoint, database)
            wait([another], 0.5)
            return another

        another = database.transact(create)
        with pytest.raises(TooManyWebhooks):
            another.result(10)


def test_new_events_change_no_version_of_an_endpoint(database: Database) -> None:
    webhook_id = make_endpoint(database)
    before = database.read(lambda reader: WebhookEndpoint.visible(reader, webhook_id))
    make_product(database)
    follow_feed(database)
    after = database.read(lambda reader: WebhookEndpoint.visible(reader, webhook_id))
    assert after.position > before.position
    assert (after.version, after.updated_at) == (before.version, before.updated_at)
