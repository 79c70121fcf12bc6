"""Webhook endpoints for the fuzzer, and few of them."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.credentials.signing import KeyRing
from models.access.secret_box import SecretBox
from models.storage.database import Database
from models.webhooks.delivery import PING, Delivery
from models.webhooks.webhook_endpoint import WebhookEndpoint
from tests.contract.fuzz.shelf import NOBODY

_FEW = 5


class DeskWebhooks:
    """Makes webhook endpoints, and removes all but the newest: each one gets every event."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._box = SecretBox(keys.derive("webhooks"))

    def make(self) -> Mapping[str, str]:
        """Return the ids of a new webhook endpoint and of a delivery to it, by their names."""
        return self._database.transact(self._make)

    def _make(self, session: Session) -> Mapping[str, str]:
        newest_first = select(WebhookEndpoint).order_by(WebhookEndpoint.id.desc())
        for old in session.scalars(newest_first.offset(_FEW).with_for_update()):
            old.remove(session)
        made = WebhookEndpoint.create(
            session, self._box, {"url": NOBODY, "types": ["account.delete"]}
        )
        # The delivery refers to it.
        session.flush()
        delivery = Delivery.create(session, made.id, PING)
        return {"webhook_id": str(made.id), "delivery_id": str(delivery.id)}
