"""The SQL of the tuned peers as Core statements that are built once.

https://docs.sqlalchemy.org/en/21/tutorial/data.html
"""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, bindparam, insert, select, update

from tests.bench.peers import shop, tuned
from tests.bench.peers.tables import Base
from tests.bench.peers.tuned import Actor, Known, Refused

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
USER = select(*(users.c[name] for name in tuned.SHOWN)).where(
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


def look_up(session_id: UUID, user_id: int) -> Actor | None:
    with single.connect() as connection:
        return standing(connection, session_id, user_id)


def standing(connection: Connection, session_id: UUID, user_id: int) -> Actor | None:
    values = {"session_id": session_id, "user_id": user_id, "now": datetime.now(UTC)}
    role = connection.scalar(STANDING, values)
    return None if role is None else Actor(user_id, session_id, role)


admit = partial(tuned.admit, look_up)


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
    with reading.connect() as connection:
        rows = connection.execute(query, {"user_id": actor.user_id, "most": limit + 1}).all()
        lines = connection.execute(LINES, {"ids": [row.id for row in rows[:limit]]}).all()
    return tuned.page_of([Known(**row._asdict()) for row in rows], lines, limit)


def create_order(actor: Actor, key: str, body: Mapping[str, Any]) -> bytes:
    """Place an order once for each key, and return its JSON.

    Raises:
        Refused: The key was used for another request, or the order cannot be placed.
    """
    fingerprint = tuned.fingerprint_of(body)
    with turn, writing.begin() as connection:
        if standing(connection, actor.session_id, actor.user_id) is None:
            raise Refused(401, "the session is over")
        kept = connection.execute(KEPT, {"user_id": actor.user_id, "key": key}).one_or_none()
        answer = tuned.replay(kept, fingerprint)
        if answer is None:
            order, lines = place_order(connection, actor.user_id, body)
            answer = orjson.dumps(tuned.as_dict(order, lines))
            record = tuned.record_of(actor, key, fingerprint, order, answer)
            connection.execute(INSERT["idempotency_records"], record)
    return answer


def place_order(
    connection: Connection, user_id: int, body: Mapping[str, Any]
) -> tuple[Known, Sequence[Any]]:
    asked = {"ids": [line["product_id"] for line in body["lines"]]}
    found = {row.id: row for row in connection.execute(LOCK, asked)}
    order, lines = tuned.new_order(user_id, body, found)
    for table, rows in tuned.rows_of(order, lines, found).items():
        connection.execute(INSERT[table], rows)
    connection.execute(
        RESERVE,
        [
            {"product": line.product_id, "units": line.quantity, "now": order.created_at}
            for line in lines
        ],
    )
    return order, lines
