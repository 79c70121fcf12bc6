"""What the tuned peers share apart from SQL: known tokens, the rules of an order, and its JSON.

As in Concord, a token is verified once, and its session is looked up twice a second and in every
write.
"""

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import jwt
import orjson
from uuid_utils.compat import uuid7

from tests.bench.peers.derived import NO_MONEY, Amounts, events_of, money
from tests.bench.peers.settings import RESERVATION, read_claims

KNOWN_SECONDS = 0.5
MOST_KNOWN = 10_000
SHOWN = (
    *("id", "name", "email", "role", "active", "email_verified", "password_change_required"),
    *("avatar", "created_at", "updated_at"),
)
"""The columns of an account that are shown."""


class Refused(Exception):
    """The response is an error with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Actor(NamedTuple):
    user_id: int
    session_id: UUID
    role: str


class Known(Amounts, SimpleNamespace):
    """An order, by the names of its columns."""


LookUp: TypeAlias = Callable[[UUID, int], Actor | None]

_claims: dict[str, Mapping[str, Any]] = {}
_actors: dict[UUID, tuple[float, Actor | None]] = {}


async def admit(look_up: LookUp, token: str, scope: str) -> Actor:
    """Return the caller of a token, from memory if looked up in the last half second.

    `look_up` reads the owner of a session from the database, in a thread.

    Raises:
        Refused: The token is invalid, its session is over, or it lacks the scope.
    """
    claims = _claims.get(token)
    if claims is None or claims["exp"] < time.time():
        try:
            claims = read_claims(token)
        except jwt.InvalidTokenError:
            raise Refused(401, "the token is invalid") from None
        remember(_claims, token, claims)
    session_id, now = UUID(claims["sid"]), time.monotonic()
    seen, actor = _actors.get(session_id, (0.0, None))
    if now - seen >= KNOWN_SECONDS:
        actor = await asyncio.to_thread(look_up, session_id, int(claims["sub"]))
        remember(_actors, session_id, (now, actor))
    if actor is None or scope not in claims["scope"].split():
        raise Refused(401, "the session is over, or lacks the scope")
    return actor


def remember(known: dict[Any, Any], name: object, value: object) -> None:
    known.pop(name, None)
    if len(known) >= MOST_KNOWN:
        del known[next(iter(known))]
    known[name] = value


def fingerprint_of(body: object) -> bytes:
    """Hash the request, so that reuse of its key for another request is noticed."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


def replay(kept: Sequence[Any] | None, fingerprint: bytes) -> bytes | None:
    """Return the earlier response to a request, from the fingerprint and body of its record.

    Raises:
        Refused: The key was used for another request.
    """
    if kept is not None and bytes(kept[0]) != fingerprint:
        raise Refused(422, "the key was used for another request")
    return None if kept is None else bytes(kept[1])


def record_of(
    actor: Actor, key: str, fingerprint: bytes, order: Known, answer: bytes
) -> dict[str, Any]:
    """Return the row that keeps the response under its key."""
    return {
        "user_id": actor.user_id,
        "key": key,
        "owner_id": actor.user_id,
        "fingerprint": fingerprint,
        "status": 201,
        "headers": [["Location", f"/v1/orders/{order.id}"], ["Content-Type", "application/json"]],
        "body": answer,
        "created_at": order.created_at,
    }


def new_order(
    user_id: int, body: Mapping[str, Any], found: Mapping[int, Any]
) -> tuple[Known, Sequence[Any]]:
    """Return an order and its lines; `found` are the products, by id.

    Raises:
        Refused: The order cannot be placed.
    """
    asked = {line["product_id"]: line["quantity"] for line in body["lines"]}
    currencies = {row.currency for row in found.values()}
    if len(found) != len(body["lines"]) or len(currencies) != 1:
        raise Refused(422, "a product is unknown or named twice, or has another currency")
    for row in found.values():
        if not row.active or row.archived_at is not None:
            raise Refused(422, "a product cannot be ordered")
        if row.on_hand - row.reserved < asked[row.id]:
            raise Refused(409, "there is not enough of a product")
    now, currency = datetime.now(UTC), currencies.pop()
    order = Known(
        id=uuid7(),
        user_id=user_id,
        status="pending",
        currency=currency,
        total_amount=sum(found[number].price_amount * units for number, units in asked.items()),
        **NO_MONEY,
        note=body.get("note"),
        shipping_address=body.get("shipping_address"),
        metadata=body.get("metadata", {}),
        version=1,
        expires_at=now + RESERVATION,
        created_at=now,
        updated_at=now,
    )
    lines = [
        SimpleNamespace(
            order_id=order.id,
            number=place,
            product_id=number,
            sku=found[number].sku,
            name=found[number].name,
            unit_amount=found[number].price_amount,
            currency=currency,
            quantity=units,
            shipped=0,
            returned=0,
        )
        for place, (number, units) in enumerate(asked.items())
    ]
    return order, lines


def rows_of(
    order: Known, lines: Sequence[Any], found: Mapping[int, Any]
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    """Return the rows that a new order adds to each table: a list, or a single row."""
    by_whom = {"order_id": order.id, "actor_id": order.user_id, "created_at": order.created_at}
    created = {"number": 1, "action": "create", "status": "pending", "lines": []}
    entry = {"kind": "reservation", "on_hand": 0, **by_whom}
    versions = {number: row.version for number, row in found.items()}
    return {
        "orders": vars(order),
        "order_lines": [vars(line) for line in lines],
        "order_events": {**created, **by_whom},
        "stock_entries": [
            {**entry, "product_id": line.product_id, "reserved": line.quantity} for line in lines
        ],
        "events": events_of(order, lines, versions, order.created_at),
    }


def page_of(orders: Sequence[Any], lines: Iterable[Any], limit: int) -> bytes:
    """Return the JSON of a page; `orders` has one more than `limit` if another page follows."""
    lines_of: dict[object, list[Any]] = {order.id: [] for order in orders}
    for line in lines:
        lines_of[line.order_id].append(line)
    page = orders[:limit]
    last = UUID(str(page[-1].id)).bytes if len(orders) > limit else None
    cursor = last and base64.urlsafe_b64encode(last).rstrip(b"=").decode()
    items = [as_dict(order, lines_of[order.id]) for order in page]
    return orjson.dumps({"items": items, "next_cursor": cursor})


def as_dict(
    order: Any,  # noqa: ANN401 - A new one, or a row.
    lines: Sequence[Any],
) -> Mapping[str, object]:
    return {
        "id": order.id,
        "user_id": order.user_id,
        "status": order.status,
        "allowed_actions": order.allowed(lines),
        "lines": [
            {
                "product_id": line.product_id,
                "sku": line.sku,
                "name": line.name,
                "unit_price": money(line.unit_amount, line.currency),
                "quantity": line.quantity,
                "total": money(line.unit_amount * line.quantity, line.currency),
                "shipped": line.shipped,
                "returned": line.returned,
            }
            for line in lines
        ],
        "total": order.total,
        "paid": order.paid,
        "refunded": order.refunded,
        "unapplied": order.unapplied,
        "due": order.due,
        "note": order.note,
        "shipping_address": order.shipping_address,
        "metadata": order.metadata,
        "expires_at": order.expires_at,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
    }
