"""The SQL of the tuned peers: Core statements that are built once, and JSON written from rows.

https://docs.sqlalchemy.org/en/21/tutorial/data.html; as by Concord, a token is verified once, and
its session is looked up twice a second and in every write.
"""

import asyncio
import contextlib
import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import jwt
import orjson
from sqlalchemy import Connection, bindparam, insert, select, update
from uuid_utils.compat import uuid7

from tests.bench.peers import shop
from tests.bench.peers.derived import NO_MONEY, Amounts, events_of, money
from tests.bench.peers.settings import RESERVATION, read_claims
from tests.bench.peers.tables import Base

KNOWN_SECONDS = 0.5
MOST_KNOWN = 10_000
_SHOWN = (
    *("id", "name", "email", "role", "active", "email_verified", "password_change_required"),
    *("avatar", "created_at", "updated_at"),
)

reading, writing = shop.make_engines()
single = reading.execution_options(**shop.SINGLE)
# SQLite has one writer: who waits for a lock is woken, and who waits for SQLite sleeps and polls.
turn: contextlib.AbstractContextManager[Any] = (
    threading.Lock() if reading.dialect.name == "sqlite" else contextlib.nullcontext()
)

users, tokens, products, orders, order_lines, records = (
    Base.metadata.tables[name]
    for name in ("users", "tokens", "products", "orders", "order_lines", "idempotency_records")
)
STANDING = (
    select(users.c.role)
    .join_from(tokens, users, tokens.c.user_id == users.c.id)
    .where(
        tokens.c.id == bindparam("session_id"),
        tokens.c.user_id == bindparam("user_id"),
        tokens.c.ended_at.is_(None),
        tokens.c.expires_at > bindparam("now"),
        tokens.c.token_version == users.c.token_version,
        users.c.active,
        users.c.erased_at.is_(None),
    )
)
USER = select(*(users.c[name] for name in _SHOWN)).where(
    users.c.id == bindparam("user_id"), users.c.erased_at.is_(None)
)
ORDERS = select(orders).order_by(orders.c.id.desc()).limit(bindparam("most"))
OWN_ORDERS = ORDERS.where(orders.c.user_id == bindparam("user_id"))
LINES = (
    select(order_lines)
    .where(order_lines.c.order_id.in_(bindparam("ids", expanding=True)))
    .order_by(order_lines.c.order_id, order_lines.c.number)
)
KEPT = select(records.c.fingerprint, records.c.body).where(
    records.c.user_id == bindparam("user_id"), records.c.key == bindparam("key")
)
LOCK = (
    select(products)
    .where(products.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(products.c.id)
    .with_for_update(key_share=True)
)
RESERVE = (
    update(products)
    .where(products.c.id == bindparam("product"))
    .values(
        reserved=products.c.reserved + bindparam("units"),
        version=products.c.version + 1,
        updated_at=bindparam("now"),
    )
)
INSERT = {name: insert(table) for name, table in Base.metadata.tables.items()}


class Refused(Exception):
    """The request is answered with an error of this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Actor(NamedTuple):
    user_id: int
    session_id: UUID
    role: str


class Known(Amounts, SimpleNamespace):
    """An order, by the names of its columns."""


_claims: dict[str, Mapping[str, Any]] = {}
_actors: dict[UUID, tuple[float, Actor | None]] = {}


async def admit(token: str, scope: str) -> Actor:
    """Find who calls with a token, from memory if that was known half a second ago.

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


def look_up(session_id: UUID, user_id: int) -> Actor | None:
    with single.connect() as connection:
        return standing(connection, session_id, user_id)


def standing(connection: Connection, session_id: UUID, user_id: int) -> Actor | None:
    values = {"session_id": session_id, "user_id": user_id, "now": datetime.now(UTC)}
    role = connection.scalar(STANDING, values)
    return None if role is None else Actor(user_id, session_id, role)


def read_user(actor: Actor, user_id: int) -> bytes:
    row = None
    if actor.role == "admin" or actor.user_id == user_id:
        with single.connect() as connection:
            row = connection.execute(USER, {"user_id": user_id}).one_or_none()
    if row is None:
        raise Refused(404, "there is no such account")
    return orjson.dumps(row._asdict())


def read_orders(actor: Actor, limit: int) -> bytes:
    query = ORDERS if actor.role == "admin" else OWN_ORDERS
    lines = defaultdict[UUID, list[Any]](list)
    with reading.connect() as connection:
        rows = connection.execute(query, {"user_id": actor.user_id, "most": limit + 1}).all()
        for line in connection.execute(LINES, {"ids": [row.id for row in rows[:limit]]}):
            lines[line.order_id].append(line)
    page = [as_dict(Known(**row._asdict()), lines[row.id]) for row in rows[:limit]]
    cursor = shop.cursor_after(rows[limit - 1].id) if len(rows) > limit else None
    return orjson.dumps({"items": page, "next_cursor": cursor})


def create_order(actor: Actor, key: str, body: Mapping[str, Any]) -> bytes:
    """Place an order once for each key, and return its JSON.

    Raises:
        Refused: The key was used for another request, or the order cannot be placed.
    """
    fingerprint = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()
    record = {"user_id": actor.user_id, "key": key}
    with turn, writing.begin() as connection:
        if standing(connection, actor.session_id, actor.user_id) is None:
            raise Refused(401, "the session is over")
        kept = connection.execute(KEPT, record).one_or_none()
        if kept is not None and kept.fingerprint != fingerprint:
            raise Refused(422, "the key was used for another request")
        if kept is not None:
            return bytes(kept.body)
        order, lines = place_order(connection, actor.user_id, body)
        answer = orjson.dumps(as_dict(order, lines))
        location = [["Location", f"/v1/orders/{order.id}"], ["Content-Type", "application/json"]]
        record |= {"owner_id": actor.user_id, "fingerprint": fingerprint, "status": 201}
        record |= {"headers": location, "body": answer, "created_at": order.created_at}
        connection.execute(INSERT["idempotency_records"], record)
    return answer


def place_order(
    connection: Connection, user_id: int, body: Mapping[str, Any]
) -> tuple[Known, Sequence[Any]]:
    asked = {line["product_id"]: line["quantity"] for line in body["lines"]}
    found = {row.id: row for row in connection.execute(LOCK, {"ids": list(asked)})}
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
    by_whom = {"order_id": order.id, "actor_id": user_id, "created_at": now}
    event = {"number": 1, "action": "create", "status": "pending", "lines": [], **by_whom}
    entry = {"kind": "reservation", "on_hand": 0, **by_whom}
    reserved = [{"product_id": number, "reserved": units} for number, units in asked.items()]
    versions = {number: row.version for number, row in found.items()}
    connection.execute(INSERT["orders"], vars(order))
    connection.execute(INSERT["order_lines"], [vars(line) for line in lines])
    connection.execute(INSERT["order_events"], event)
    connection.execute(
        RESERVE,
        [{"product": number, "units": units, "now": now} for number, units in asked.items()],
    )
    connection.execute(INSERT["stock_entries"], [{**entry, **each} for each in reserved])
    connection.execute(INSERT["events"], events_of(order, lines, versions, now))
    return order, lines


def as_dict(order: Known, lines: Sequence[Any]) -> Mapping[str, object]:
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
