"""The same question has the same answer: what every peer says and writes is held against Concord's.

Times are compared as instants, whatever their spelling. Apart are the ids and times of new orders,
the spelling of cursors, and what an error says: only its kind is compared.
"""

import http.client
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import Update

from models.catalogue.product import Product
from models.catalogue.stock_entry import StockEntry
from models.events.event import Event
from models.identity.token import Token
from models.identity.user import User
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_line import OrderLine
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord
from tests.bench.contenders import HOST, Running
from tests.bench.operations import KEY, MeasuredOperation, Request
from tests.bench.seeding import BUYERS, GUEST, READERS, Shop

_NEW = frozenset({"id", "created_at", "updated_at", "expires_at"})
_TABLES: Sequence[Any] = (Order, OrderLine, OrderEvent, StockEntry)
_OF_A_ROW = _NEW | {"order_id", "sequence", "position"}
_SAMPLE = (0, 100, len(READERS) - 1)
_KNOWN_SECONDS = 0.6
"""A little more than the half second for which Concord keeps what it knows of a session."""


class Different(Exception):
    """A peer answers, or writes, something else than Concord."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: its status, and its JSON if it is JSON."""

    status: int
    body: Any


def ask(server: Running, request: Request, key: str = "") -> Answer:
    """Send one request."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    headers = {name: value.replace(KEY, key) for name, value in request.headers}
    connection.request(request.method, request.path, request.body or None, headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return Answer(response.status, body)


def compare(
    concord: Running, peers: Sequence[Running], operations: Sequence[MeasuredOperation], shop: Shop
) -> None:
    """Ask everybody the same.

    Raises:
        Different: with who it is, what was asked, and where the first difference is.
    """
    for operation in operations:
        requests = operation.prepare(shop)
        requests = [requests[each % len(requests)] for each in _SAMPLE]
        for request in requests:
            expected = _observe(concord, operation, request, shop)
            for peer in peers:
                if operation.is_rejected and not peer.contender.validates:
                    continue
                found = _observe(peer, operation, request, shop)
                difference = _difference(expected, found, "")
                if difference is not None:
                    title = f"{peer.contender.name}, {request.method} {request.path}"
                    raise Different(f"{title}: {difference}")


def refuses_strangers(server: Running, operation: MeasuredOperation, shop: Shop) -> None:
    """Insist that the token is checked: none, and one whose signature is another's, are refused.

    Raises:
        Different: somebody is let in.
    """
    request, other = operation.prepare(shop)[:2]
    token, others = request.headers[0][1], other.headers[0][1]
    forged = f"{token.rpartition('.')[0]}.{others.rpartition('.')[2]}"
    for headers in ((), (("Authorization", forged),)):
        kept = tuple(each for each in request.headers if each[0] != "Authorization")
        stranger = Request(request.method, request.path, (*headers, *kept), request.body)
        status = ask(server, stranger, uuid.uuid4().hex).status
        if status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Different(f"{server.contender.name} lets strangers in: {status}")


def refuses_ended_sessions(servers: Sequence[Running], shop: Shop) -> None:
    """Insist that the session of a token is looked up: one that holds no longer lets nobody in.

    Raises:
        Different: one is let in with it, or not with a session that holds.
    """
    bearer = ("Authorization", f"Bearer {shop.tokens[GUEST]}")
    request = Request("GET", f"/v1/users/{GUEST}", (bearer,))
    for server in servers:
        status = ask(server, request).status
        if status != HTTPStatus.OK:
            raise Different(f"{server.contender.name} refuses a session that holds: {status}")
    past = datetime.now(UTC) - timedelta(days=1)
    session, account = (Token, Token.user_id == GUEST), (User, User.id == GUEST)
    for (table, condition), column, ended, holds in (
        (session, "token_version", 0, 1),
        (account, "active", False, True),
        (account, "erased_at", past, None),
        (session, "ended_at", past, None),
        (session, "expires_at", past, past + timedelta(days=30)),
    ):
        change = update(table).where(condition)
        _execute(shop, change.values({column: ended}))
        time.sleep(_KNOWN_SECONDS)
        for server in servers:
            status = ask(server, request).status
            if status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                name = server.contender.name
                raise Different(f"{name} lets in whatever {column} of the session says: {status}")
        _execute(shop, change.values({column: holds}))


def _execute(shop: Shop, change: Update) -> None:
    database = Database(shop.url, pool_size=1)
    try:
        database.transact(lambda session: session.execute(change), write=True)
    finally:
        database.dispose()


def _observe(server: Running, operation: MeasuredOperation, request: Request, shop: Shop) -> object:
    """What a request leads to, in a form that is the same for everybody."""
    key = uuid.uuid4().hex
    answer = ask(server, request, key)
    if operation.is_rejected:
        # Which status stands for a rejected body is each framework's own.
        return {"rejected": answer.status in {400, 422}, "written": _written(shop, None, key)}
    if operation.kind in {"health", "user"} or answer.status >= HTTPStatus.BAD_REQUEST:
        return {"status": answer.status, "body": _plain(answer.body)}
    if operation.kind == "orders":
        body = _plain(answer.body)
        body["next_cursor"] = isinstance(body["next_cursor"], str)
        return {"status": answer.status, "body": body}
    order = _plain(answer.body)
    again = ask(server, request, key)
    return {
        "status": answer.status,
        "body": {name: value for name, value in order.items() if name not in _NEW},
        "has": {name: type(order.get(name)).__name__ for name in sorted(_NEW)},
        "same_again": again.status == answer.status and _plain(again.body) == order,
        "written": _written(shop, order.get("id"), key),
    }


def _written(shop: Shop, order_id: str | None, key: str) -> object:
    """The rows that a request left, less their ids and times."""
    database = Database(shop.url, pool_size=1)
    try:
        return database.transact(partial(_rows, order_id=order_id, key=key), write=False)
    finally:
        database.dispose()


def _rows(session: Session, order_id: str | None, key: str) -> Mapping[str, object]:
    records = session.scalars(select(IdempotencyRecord).where(IdempotencyRecord.key == key)).all()
    rows: dict[str, object] = {
        "records": [(each.user_id, each.owner_id, each.status) for each in records]
    }
    if order_id is None:
        return rows
    for table in _TABLES:
        column = table.id if table is Order else table.order_id
        found = session.execute(select(table.__table__).where(column == uuid.UUID(order_id)))
        rows[table.__tablename__] = sorted(
            # PostgreSQL's jsonb, through which Django writes, keeps no order of members.
            json.dumps(
                {name: each[name] for name in each if name not in _OF_A_ROW},
                default=str,
                sort_keys=True,
            )
            for each in found.mappings()
        )
    ledger = select(OrderLine.product_id).where(OrderLine.order_id == uuid.UUID(order_id))
    rows["event"] = _told(session, f"orders/{order_id}", order_id)
    for product in session.scalars(select(Product).where(Product.id.in_(ledger))):
        entries = select(StockEntry.reserved).where(StockEntry.product_id == product.id)
        rows[f"product {product.id}"] = {
            "reserved": product.reserved == sum(session.scalars(entries)),
            # Nobody else has ordered it since.
            "event": _told(session, f"products/{product.id}", order_id, product.version),
        }
    rows["buyer"] = session.get_one(Order, uuid.UUID(order_id)).user_id in BUYERS
    return rows


def _told(session: Session, subject: str, order_id: str, version: int = 1) -> object:
    """The event of the feed that led to a version, less what is particular to it."""
    events = select(Event.type, Event.facts)
    events = events.where(Event.subject == subject, Event.version == version)
    return [
        (kind, json.dumps(facts, sort_keys=True).replace(order_id, "the order"))
        for kind, facts in session.execute(events)
    ]


def _plain(value: object) -> Any:  # noqa: ANN401 - any JSON.
    """Give JSON with its times as instants."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and value[4:5] == "-":
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return value


def _difference(expected: object, found: object, place: str) -> str | None:
    """Where two values differ first, and how; None if they are equal, types and all."""
    if type(expected) is not type(found):
        return f"{place or 'the answer'} is {found!r} instead of {expected!r}"
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            return f"{place or 'the answer'} has {sorted(found)} instead of {sorted(expected)}"
        pairs = [(f"{place}/{name}", expected[name], found[name]) for name in expected]
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{place} has {len(found)} items instead of {len(expected)}"
        pairs = [
            (f"{place}/{index}", *each)
            for index, each in enumerate(zip(expected, found, strict=True))
        ]
    else:
        return None if expected == found else f"{place} is {found!r} instead of {expected!r}"
    differences = (_difference(mine, theirs, where) for where, mine, theirs in pairs)
    return next((each for each in differences if each is not None), None)
