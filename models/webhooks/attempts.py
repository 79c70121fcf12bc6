"""Attempts: deliveries created from the feed, the requests that are due, and their outcomes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import bindparam, exists, func, select, update
from sqlalchemy.orm import Session

from models.access.secret_box import SecretBox
from models.events.event import Event, EventData
from models.identity.user import User
from models.messages.message import Message
from models.storage.base import UTCDateTime, utcnow
from models.storage.constants import constant
from models.storage.database import Database
from models.storage.identifiers import instant_of
from models.storage.reader import Reader
from models.webhooks.delivery import PING, AttemptOutcome, Delivery
from models.webhooks.webhook_endpoint import WebhookEndpoint

_BATCH = 500
"""Events that become deliveries in one transaction."""
MAX_LEASED = 20
"""Deliveries to one endpoint that a process leases at once."""
_MAX_NOTIFIED = 100
"""Administrators who get a message about an endpoint that was switched off."""

# Each process executes these statements several times a second.
_BEHIND = constant(
    select(WebhookEndpoint.id).where(
        WebhookEndpoint.position < select(func.max(Event.position)).scalar_subquery()
    )
)
_DUE = constant(
    select(WebhookEndpoint.id).where(
        WebhookEndpoint.active,
        exists().where(
            Delivery.webhook_id == WebhookEndpoint.id,
            Delivery.is_due(bindparam("now", type_=UTCDateTime)),
        ),
    )
)


class OutgoingRequest(NamedTuple):
    """A request to send: the id of its event, and its body as JSON."""

    delivery_id: UUID
    attempt: int
    event_id: UUID
    body: bytes


class RequestBatch(NamedTuple):
    """Due requests to one URL, each signed with all of `keys`."""

    url: str
    keys: Sequence[bytes]
    requests: Sequence[OutgoingRequest]


def create_deliveries(database: Database) -> bool:
    """Create the deliveries of new events, and return whether more may be left.

    Raises:
        DatabaseUnavailable: The database failed. Nothing was created.
    """
    found = database.read(lambda reader: reader.execute(_BEHIND).scalars().all(), single=True)
    more = [database.transact(partial(_create_deliveries_to, webhook_id=each)) for each in found]
    return any(more)


def due_endpoints(reader: Reader) -> Sequence[UUID]:
    """Return the ids of the active endpoints that have due deliveries."""
    return reader.execute(_DUE, {"now": utcnow()}).scalars().all()


def lease_requests(session: Session, box: SecretBox, webhook_id: UUID) -> RequestBatch | None:
    """Lease due deliveries to an active endpoint for a minute; `None` if there are none."""
    endpoint = session.get(WebhookEndpoint, webhook_id)
    if endpoint is None or not endpoint.active:
        return None
    leased = Delivery.lease(session, webhook_id, MAX_LEASED)
    asked = select(Event).where(Event.id.in_([each.event_id for each in leased]))
    events = {event.id: event for event in session.scalars(asked)}
    requests = []
    for delivery in leased:
        event = events.get(delivery.event_id)
        if event is None and delivery.type != PING:
            # Events are purged before the deliveries that were created from them.
            session.delete(delivery)
        else:
            body = _ping(delivery) if event is None else _document(event)
            requests.append(
                OutgoingRequest(delivery.id, delivery.attempts, delivery.event_id, body)
            )
    return RequestBatch(endpoint.url, endpoint.keys(box), requests) if requests else None


def record_outcomes(
    session: Session, webhook_id: UUID, outcomes: Mapping[OutgoingRequest, AttemptOutcome]
) -> bool:
    """Record the outcomes of attempts, and return whether the endpoint was switched off.

    An endpoint is switched off if its receiver answers 410, or if all attempts have failed for
    three days. The administrators then get a message. An outcome that comes after its lease has
    expired is ignored.
    """
    endpoint = session.get(WebhookEndpoint, webhook_id, with_for_update={"key_share": True})
    if endpoint is None:
        return False
    asked = select(Delivery).where(Delivery.id.in_([each.delivery_id for each in outcomes]))
    deliveries = {each.id: each for each in session.scalars(asked.with_for_update())}
    recorded = []
    for request, outcome in outcomes.items():
        delivery = deliveries.get(request.delivery_id)
        if delivery is not None and (delivery.attempts, delivery.status) == (
            request.attempt,
            "pending",
        ):
            delivery.finish(outcome, endpoint.active_since)
            recorded.append(outcome)
    if not recorded or not endpoint.note_attempts(recorded):
        return False
    _notify_administrators(session)
    return True


def _create_deliveries_to(session: Session, webhook_id: UUID) -> bool:
    """Create deliveries to one endpoint, and return whether more may be left.

    Another process may be doing the same. Its rows are left to it.
    """
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == webhook_id)
    endpoint = session.scalar(query.with_for_update(skip_locked=True, key_share=True))
    if endpoint is None:
        return False
    later = select(Event.position, Event.id, Event.type).where(Event.position > endpoint.position)
    rows = session.execute(later.order_by(Event.position).limit(_BATCH)).all()
    for row in rows:
        if endpoint.wants(row.type):
            Delivery.create(session, endpoint.id, row.type, row.id)
    if rows:
        # The position is not shown, so it changes neither the version nor the time of the update.
        moved = update(WebhookEndpoint).where(WebhookEndpoint.id == webhook_id)
        session.execute(
            moved.values(position=rows[-1].position, updated_at=WebhookEndpoint.updated_at)
        )
    return len(rows) == _BATCH


def _document(event: Event) -> bytes:
    """Return an event as `GET /v1/events` shows it."""
    return _encode(event.id, event.type, event.subject, event.version, event.data)


def _ping(delivery: Delivery) -> bytes:
    subject = f"webhook-endpoints/{delivery.webhook_id}"
    return _encode(delivery.event_id, PING, subject, 1, EventData())


def _encode(identifier: UUID, kind: str, subject: str, version: int, data: EventData) -> bytes:
    created_at = instant_of(identifier).isoformat(timespec="microseconds")
    document = {
        "id": identifier,
        "type": kind,
        "created_at": created_at.replace("+00:00", "Z"),
        "subject": subject,
        "version": version,
        "data": data._asdict(),
    }
    return orjson.dumps(document)


def _notify_administrators(session: Session) -> None:
    administrators = select(User.id).where(User.exists(), User.role == "admin", User.active)
    for user_id in session.scalars(administrators.order_by(User.id).limit(_MAX_NOTIFIED)):
        Message.enqueue(session, "webhook_disabled", user_id)
