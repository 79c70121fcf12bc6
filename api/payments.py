"""Handlers for payment providers, and for the administrators who look into their events."""

from datetime import timedelta

from sqlalchemy.orm import Session

from api.contract.serve.forms import Upload
from api.providers.payment_providers import PaymentProviders, Signature
from models.lifecycle import Lifecycle
from models.payments.payment_event import Outcome, PaymentEvent
from models.storage.page import Page
from models.storage.reader import Reader


def list_payment_events(
    reader: Reader, outcome: Outcome | None, cursor: list[object] | None, limit: int
) -> Page[PaymentEvent]:
    """List the events of payment providers."""
    return PaymentEvent.page(reader, outcome=outcome, after=cursor, limit=limit)


def receive_payment_event(
    session: Session,
    provider: str,
    stripe_signature: str | None,
    webhook_id: str | None,
    webhook_timestamp: str | None,
    webhook_signature: str | None,
    body: Upload,
    payment_providers: PaymentProviders,
    lifecycle: Lifecycle,
    reservation: timedelta,
) -> None:
    """Verify an event of a provider, and record what it reports."""
    signature = Signature(stripe_signature, webhook_id, webhook_timestamp, webhook_signature)
    report = payment_providers.read(provider, signature, body.file.read())
    if report is not None:
        event = PaymentEvent.receive(session, report, lifecycle, reservation=reservation)
        payment_providers.tell(provider, event)
