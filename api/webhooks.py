"""Handlers for webhook endpoints and the deliveries to them, for administrators."""

from datetime import datetime
from typing import TypedDict
from uuid import UUID

from sqlalchemy.orm import Session

from api.outbound.webhook_urls import WebhookUrls
from models.access.secret_box import SecretBox
from models.storage.base import Versions
from models.storage.page import Page
from models.storage.reader import Reader
from models.webhooks.delivery import PING, Delivery, DeliveryStatus
from models.webhooks.webhook_endpoint import NewSecret, WebhookChanges, WebhookEndpoint


class Redelivery(TypedDict):
    """A request body to repeat deliveries."""

    since: datetime


def list_webhook_endpoints(
    reader: Reader, cursor: list[object] | None, limit: int
) -> Page[WebhookEndpoint]:
    """List the webhook endpoints, newest first."""
    return WebhookEndpoint.page(reader, after=cursor, limit=limit)


def create_webhook_endpoint(
    session: Session, body: WebhookChanges, webhook_urls: WebhookUrls, webhook_box: SecretBox
) -> NewSecret:
    """Create a webhook endpoint; the response alone shows its secret."""
    webhook_urls.check(body["url"])
    return WebhookEndpoint.create(session, webhook_box, body)


def get_webhook_endpoint(reader: Reader, webhook_id: UUID) -> WebhookEndpoint:
    """Return a webhook endpoint."""
    return WebhookEndpoint.visible(reader, webhook_id)


def update_webhook_endpoint(
    session: Session,
    webhook_id: UUID,
    body: WebhookChanges,
    if_match: Versions,
    webhook_urls: WebhookUrls,
) -> WebhookEndpoint:
    """Update the given properties of a webhook endpoint."""
    endpoint = WebhookEndpoint.locked(session, webhook_id)
    endpoint.require_version(if_match)
    if "url" in body:
        webhook_urls.check(body["url"])
    endpoint.change(body)
    # The response shows the version after the change.
    session.flush()
    return endpoint


def delete_webhook_endpoint(session: Session, webhook_id: UUID, if_match: Versions) -> None:
    """Delete a webhook endpoint and its deliveries."""
    endpoint = WebhookEndpoint.locked(session, webhook_id)
    endpoint.require_version(if_match)
    endpoint.remove(session)


def rotate_webhook_secret(
    session: Session, webhook_id: UUID, if_match: Versions, webhook_box: SecretBox
) -> NewSecret:
    """Replace the secret of a webhook endpoint."""
    endpoint = WebhookEndpoint.locked(session, webhook_id)
    endpoint.require_version(if_match)
    return endpoint.rotate_secret(webhook_box)


def ping_webhook_endpoint(session: Session, webhook_id: UUID) -> Delivery:
    """Send a test event."""
    endpoint = WebhookEndpoint.locked(session, webhook_id)
    return Delivery.create(session, endpoint.id, PING)


def create_redelivery(session: Session, webhook_id: UUID, body: Redelivery) -> dict[str, int]:
    """Repeat finished deliveries since a time."""
    endpoint = WebhookEndpoint.locked(session, webhook_id)
    return {"count": Delivery.repeat_since(session, endpoint.id, body["since"])}


def list_deliveries(
    reader: Reader,
    webhook_id: UUID,
    status: DeliveryStatus | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[Delivery]:
    """List the deliveries to a webhook endpoint, newest first."""
    WebhookEndpoint.visible(reader, webhook_id)
    return Delivery.page(reader, webhook_id, status=status, after=cursor, limit=limit)


def get_delivery(reader: Reader, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Return a delivery."""
    return Delivery.of(reader, webhook_id, delivery_id)


def redeliver_event(session: Session, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Send the event of a delivery again."""
    delivery = Delivery.locked(session, webhook_id, delivery_id)
    delivery.repeat()
    return delivery
