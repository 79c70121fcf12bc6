"""Erasure of accounts that nobody has ever used, so that mistyped addresses are not kept."""

from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from models.accounts.account import erase_account
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.token import Token
from models.identity.user import User
from models.lifecycle import Lifecycle
from models.orders.order import Order
from models.set_aside import SetAside
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.reader import Reader

_BATCH = 100


class _Owner(NamedTuple):
    user_id: int
    token_version: int
    is_admin: bool = False


def erase_unclaimed(
    database: Database,
    lifecycle: Lifecycle,
    keep: timedelta,
    audited: timedelta,
    aside: SetAside[int],
) -> bool:
    """Erase up to 100 unclaimed accounts older than `keep`, and return whether more may be left.

    An unclaimed account is active, belongs to a user, has no verified email address and no orders,
    and nobody has signed in to it. Sign-ins are on record for `audited`, so accounts older than
    that are kept. Accounts that cannot be erased are set aside.

    Raises:
        DatabaseUnavailable: The database failed. Accounts already erased stay erased.
        Exception: As in `SetAside.attempt`.
    """
    now = utcnow()
    unclaimed = is_unclaimed(now - audited, now - keep) & User.id.not_in(aside.keys)
    found = database.read(partial(find_unclaimed, unclaimed=unclaimed))
    erased = 0
    for user_id in found:
        work = partial(_erase, lifecycle=lifecycle, user_id=user_id, unclaimed=unclaimed)
        erased += aside.attempt(user_id, partial(database.transact, work, write=True)) or False
    return erased > 0 and len(found) == _BATCH


def find_unclaimed(reader: Reader, unclaimed: ColumnElement[bool]) -> list[int]:
    """Return the ids of the oldest unclaimed accounts, at most 100."""
    query = select(User.id).where(unclaimed).order_by(User.created_at, User.id).limit(_BATCH)
    return list(reader.scalars(query))


def is_unclaimed(oldest: datetime, newest: datetime) -> ColumnElement[bool]:
    """Return whether an account created between these times is unclaimed."""
    signed_in = AuditEvent.action.in_(("sign-in", "sign-in.second-factor"))
    return (
        User.exists()
        & ~User.email_verified
        & User.active
        & (User.role == "user")
        & (User.created_at > oldest)
        & (User.created_at < newest)
        & ~exists().where(AuditEvent.user_id == User.id, signed_in, AuditEvent.succeeded)
        & ~exists().where(Token.user_id == User.id)
        & ~exists().where(Order.user_id == User.id)
    )


def _erase(
    session: Session, *, lifecycle: Lifecycle, user_id: int, unclaimed: ColumnElement[bool]
) -> bool:
    query = select(User).where(User.id == user_id)
    user = session.scalar(query.with_for_update(skip_locked=True))
    # A sign-in may have ended just before the lock, so the account is looked at again.
    if user is None or not session.scalar(select(exists().where(User.id == user_id, unclaimed))):
        return False
    owner = _Owner(user.id, user.token_version)
    erase_account(session, lifecycle, user, by=owner, origin=RequestOrigin())
    return True
