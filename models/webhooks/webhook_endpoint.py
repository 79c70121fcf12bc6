"""Webhook endpoints: the URLs to which events are sent, and their secrets."""

import base64
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypedDict
from uuid import UUID

from sqlalchemy import JSON, BigInteger, LargeBinary, String, Uuid, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.access.secret_box import SecretBox
from models.errors import NotFound, TooManyWebhooks
from models.events.event import Event
from models.storage.base import Base, UTCDateTime, Versioned, utcnow
from models.storage.identifiers import instant_of, new_id
from models.storage.page import Listing, Page
from models.storage.reader import Reader
from models.webhooks.delivery import PATIENCE, AttemptOutcome, Delivery

_MAX_ENDPOINTS = 50
_OVERLAP = timedelta(hours=24)
"""Time during which requests are signed with a replaced secret too."""
_SECRET_BYTES = 32


class WebhookChanges(TypedDict, total=False):
    """The fields given to create or change a webhook endpoint. Omitted fields stay unchanged."""

    url: str
    description: str
    types: list[str] | None
    active: bool


class NewSecret(NamedTuple):
    """A webhook endpoint's id and its new secret, which cannot be read again."""

    id: UUID
    secret: str


class WebhookEndpoint(Versioned, Base):
    """A URL that receives the events of some types, or of all types if `types` is `None`.

    Deliveries exist for all events up to `position` in the feed. `failing_since` is the time of the
    first failed attempt since the last success, or since `active` became true at `active_since`.
    Secrets are encrypted with a `SecretBox`. `previous_secret` was replaced last, and
    `oldest_secret` is the one that was replaced first among those that were still valid then.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    url: Mapped[str] = mapped_column(String(2000))
    description: Mapped[str] = mapped_column(String(200))
    types: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    active: Mapped[bool] = mapped_column(default=True)
    active_since: Mapped[datetime] = mapped_column(UTCDateTime)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    oldest_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    oldest_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    position: Mapped[int] = mapped_column(BigInteger)
    failing_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    updated_at: Mapped[datetime] = mapped_column(UTCDateTime, onupdate=utcnow)

    @classmethod
    def create(cls, session: Session, box: SecretBox, values: WebhookChanges) -> NewSecret:
        """Create a webhook endpoint for all events from now on.

        Raises:
            TooManyWebhooks: There are already 50 webhook endpoints.
        """
        # Locking the existing rows in one order serializes concurrent requests. A second statement
        # counts, because one that has waited does not see the rows added meanwhile.
        session.execute(select(cls.id).order_by(cls.id).with_for_update(key_share=True))
        if (session.scalar(select(func.count()).select_from(cls)) or 0) >= _MAX_ENDPOINTS:
            raise TooManyWebhooks
        identifier = new_id()
        now = instant_of(identifier)
        endpoint = cls(
            id=identifier,
            active_since=now,
            position=session.scalar(select(func.max(Event.position))) or 0,
            created_at=now,
            updated_at=now,
            **{"description": "", **values},
        )
        session.add(endpoint)
        return endpoint._renew_secret(box)

    @classmethod
    def visible(cls, reader: Reader, webhook_id: UUID) -> "WebhookEndpoint":
        """Return one webhook endpoint.

        Raises:
            NotFound: There is no webhook endpoint with this id.
        """
        endpoint = reader.scalar(select(cls).where(cls.id == webhook_id))
        if endpoint is None:
            raise NotFound
        return endpoint

    @classmethod
    def locked(cls, session: Session, webhook_id: UUID) -> "WebhookEndpoint":
        """Return one webhook endpoint, locked until the transaction ends.

        Raises:
            NotFound: There is no webhook endpoint with this id.
        """
        endpoint = session.get(cls, webhook_id, with_for_update={"key_share": True})
        if endpoint is None:
            raise NotFound
        return endpoint

    @classmethod
    def page(
        cls, reader: Reader, *, after: Sequence[object] | None, limit: int
    ) -> Page["WebhookEndpoint"]:
        """Return a page of the webhook endpoints, newest first."""
        return Listing(select(cls), [cls.id], descending=True).page(
            reader, after=after, limit=limit
        )

    def change(self, changes: WebhookChanges) -> None:
        """Change the given fields. An endpoint that becomes active gets three days to work."""
        if changes.get("active") and not self.active:
            self.active_since, self.failing_since = utcnow(), None
        for name, value in changes.items():
            setattr(self, name, value)

    def rotate_secret(self, box: SecretBox) -> NewSecret:
        """Replace the secret. The previous one stays valid for 24 hours.

        If several secrets are valid then, the oldest of them stays valid for its 24 hours too. If
        the responses of later rotations were lost, the receiver still uses it.
        """
        now = utcnow()
        if self.oldest_until is None or self.oldest_until <= now:
            self.oldest_secret, self.oldest_until = self.previous_secret, self.previous_until
        self.previous_secret, self.previous_until = self.secret, now + _OVERLAP
        return self._renew_secret(box)

    def remove(self, session: Session) -> None:
        """Delete the webhook endpoint with its deliveries."""
        session.execute(delete(Delivery).where(Delivery.webhook_id == self.id))
        session.delete(self)

    def keys(self, box: SecretBox) -> list[bytes]:
        """Return the keys that sign requests, the current one first."""
        now = utcnow()
        replaced = (
            (self.previous_secret, self.previous_until),
            (self.oldest_secret, self.oldest_until),
        )
        valid = [secret for secret, until in replaced if secret and until and until > now]
        opened = [box.open(each, owner=self.id.int) for each in (self.secret, *valid)]
        return [each for each in opened if each is not None]

    def note_attempts(self, outcomes: Collection[AttemptOutcome]) -> bool:
        """Note the outcomes of attempts, and return whether they switch the webhook endpoint off.

        A final outcome switches it off, and so do failures for three days without a success.
        """
        if any(each.has_succeeded for each in outcomes):
            self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = utcnow()
        is_failing = self.failing_since is not None and self.failing_since + PATIENCE < utcnow()
        if not self.active or not (is_failing or any(each.is_final for each in outcomes)):
            return False
        self.active = False
        return True

    def wants(self, event_type: str) -> bool:
        """Return whether events of this type are sent to the webhook endpoint."""
        return self.types is None or event_type in self.types

    def _renew_secret(self, box: SecretBox) -> NewSecret:
        key = secrets.token_bytes(_SECRET_BYTES)
        self.secret = box.seal(key, owner=self.id.int)
        return NewSecret(self.id, f"whsec_{base64.b64encode(key).decode()}")
