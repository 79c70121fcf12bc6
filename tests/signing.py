"""Events of payment providers, signed with the providers' own libraries."""

import json
import time
import uuid
from datetime import UTC, datetime

import httpx
import stripe
from standardwebhooks import Webhook

STRIPE_SECRET = "whsec_of_the_stripe_of_tests"
OTHER_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PAYMENT_SECRETS = f"stripe={STRIPE_SECRET},acme={OTHER_SECRET}"
"""The setting of services in tests."""


def stripe_headers(
    body: str, *, secret: str = STRIPE_SECRET, at: float | None = None
) -> dict[str, str]:
    """Sign a body as Stripe does."""
    moment = int(time.time() if at is None else at)
    sign = stripe.WebhookSignature.generate_signature_header
    return {
        "Stripe-Signature": sign(body, secret, moment),
        "Content-Type": "application/json; charset=utf-8",
    }


def standard_headers(
    body: str, *, secret: str = OTHER_SECRET, at: float | None = None, event: str | None = None
) -> dict[str, str]:
    """Sign a body as Standard Webhooks prescribes."""
    moment = datetime.fromtimestamp(time.time() if at is None else at, tz=UTC)
    event = event or f"msg_{uuid.uuid4().hex}"
    return {
        "webhook-id": event,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(event, moment, body),
        "Content-Type": "application/json",
    }


def send_stripe(
    client: httpx.Client, event: object, *, secret: str = STRIPE_SECRET, at: float | None = None
) -> httpx.Response:
    """Send an event of Stripe."""
    body = json.dumps(event)
    headers = stripe_headers(body, secret=secret, at=at)
    return client.post("/v1/payment-events/stripe", content=body, headers=headers)


def send_standard(
    client: httpx.Client,
    kind: str,
    data: object,
    *,
    secret: str = OTHER_SECRET,
    at: float | None = None,
    event: str | None = None,
) -> httpx.Response:
    """Send an event of another provider."""
    body = json.dumps({"type": kind, "timestamp": "2026-01-31T12:00:00Z", "data": data})
    headers = standard_headers(body, secret=secret, at=at, event=event)
    return client.post("/v1/payment-events/acme", content=body, headers=headers)


def intent(order: str | None, amount: int, currency: str = "eur") -> dict[str, object]:
    """Make the event of Stripe for a payment that succeeded, with the members that it has."""
    number = uuid.uuid4().hex
    metadata = {} if order is None else {"order_id": order}
    return {
        "id": f"evt_{number}",
        "object": "event",
        "api_version": "2026-01-28.clover",
        "created": int(time.time()),
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "payment_intent.succeeded",
        "data": {
            "object": {
                "id": f"pi_{number}",
                "object": "payment_intent",
                "amount": amount,
                "amount_received": amount,
                "currency": currency,
                "latest_charge": f"ch_{number}",
                "metadata": metadata,
                "status": "succeeded",
            }
        },
    }


def payment_id(event: dict[str, object]) -> str:
    """Give the id of the payment of an event that `intent` made."""
    return str(event["id"]).replace("evt_", "pi_")


def dispute(
    payment: str, amount: int, kind: str = "funds_withdrawn", *, dispute: str | None = None
) -> dict[str, object]:
    """Make the event of Stripe for a dispute of a payment."""
    number = uuid.uuid4().hex
    return {
        "id": f"evt_{number}",
        "object": "event",
        "type": f"charge.dispute.{kind}",
        "data": {
            "object": {
                "id": dispute or f"du_{number}",
                "object": "dispute",
                "amount": amount,
                "currency": "eur",
                "charge": f"ch_{number}",
                "payment_intent": payment,
                "reason": "fraudulent",
                "status": "needs_response",
            }
        },
    }
