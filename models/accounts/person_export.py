"""Everything that is stored about a person, as one document (GDPR, articles 15 and 20)."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select

from models.access.authenticator_app import SecondFactor, SecondFactorState
from models.actor import Actor
from models.identity.audit_event import AuditEvent
from models.identity.known_address import KnownAddress
from models.identity.one_time_token import OneTimeToken
from models.identity.token import Token
from models.identity.user import User
from models.messages.message import Message
from models.orders.order_event import OrderEvent
from models.orders.order_list import OrderFilter, find_orders
from models.orders.order_view import OrderView
from models.storage.base import utcnow
from models.storage.reader import Reader

_MOST_ORDERS, _MOST_EVENTS, _MOST_AUDIT_EVENTS = 1000, 10_000, 5000
_MOST_ROWS = 1000
"""Maximum number of tokens, links or messages, which is far above what an account can have."""
_PAGE = 20


class ExportedOrder(NamedTuple):
    """An order and its events, oldest first."""

    order: OrderView
    events: Sequence[OrderEvent]


class PersonExport(NamedTuple):
    """The data of a person, without secrets; `complete` is false if a list was cut."""

    exported_at: datetime
    complete: bool
    account: User
    second_factor: SecondFactorState
    tokens: Sequence[Token]
    known_addresses: Sequence[KnownAddress]
    links: Sequence[OneTimeToken]
    messages: Sequence[Message]
    orders: Sequence[ExportedOrder]
    audit_events: Sequence[AuditEvent]


def export_person(reader: Reader, actor: Actor) -> PersonExport:
    """Return everything that is stored about the actor, as of one moment.

    Left out are copies of the same data, such as search terms, and the hashes of secrets.

    Raises:
        AccessEnded: The account was erased after the request was authenticated.
    """
    user = User.of(reader, actor)
    orders, has_all_orders = _read_orders(reader, actor)
    audited = AuditEvent.about(reader, user.id, limit=_MOST_AUDIT_EVENTS + 1)
    tokens = select(Token).where(Token.user_id == user.id).order_by(Token.id.desc())
    links = select(OneTimeToken).where(OneTimeToken.user_id == user.id)
    messages = select(Message).where(Message.user_id == user.id).order_by(Message.id)
    known = select(KnownAddress).where(KnownAddress.user_id == user.id)
    return PersonExport(
        exported_at=utcnow(),
        complete=has_all_orders and len(audited) <= _MOST_AUDIT_EVENTS,
        account=user,
        second_factor=SecondFactor.state(reader, user.id),
        tokens=reader.scalars(tokens.limit(_MOST_ROWS)).all(),
        known_addresses=reader.scalars(known.order_by(KnownAddress.used_at.desc())).all(),
        links=reader.scalars(links.order_by(OneTimeToken.created_at).limit(_MOST_ROWS)).all(),
        messages=reader.scalars(messages.limit(_MOST_ROWS)).all(),
        orders=orders,
        audit_events=audited[:_MOST_AUDIT_EVENTS],
    )


def _read_orders(reader: Reader, actor: Actor) -> tuple[list[ExportedOrder], bool]:
    """Return the actor's newest orders with their events, and whether these are all of them."""
    found: list[ExportedOrder] = []
    wanted, left = OrderFilter(user_id=actor.user_id), _MOST_EVENTS
    after: list[Any] | None = None
    while True:
        page = find_orders(reader, wanted, by=actor, sort="-created_at", after=after, limit=_PAGE)
        events = _read_events(reader, [order.id for order in page.items], left + 1)
        count = sum(map(len, events.values()))
        if count > left or len(found) + len(page.items) > _MOST_ORDERS:
            return found, False
        found += [ExportedOrder(order, events[order.id]) for order in page.items]
        left, after = left - count, page.next_key
        if after is None:
            return found, True


def _read_events(
    reader: Reader, order_ids: Sequence[UUID], limit: int
) -> dict[UUID, list[OrderEvent]]:
    query = select(OrderEvent).where(OrderEvent.order_id.in_(order_ids))
    events = defaultdict[UUID, list[OrderEvent]](list)
    query = query.order_by(OrderEvent.order_id, OrderEvent.number).limit(limit)
    for event in reader.scalars(query):
        events[event.order_id].append(event)
    return events
