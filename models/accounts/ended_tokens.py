"""Deletion of tokens that expired or ended, and of what an erased account left behind."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from models.access.session import RefreshToken
from models.identity.audit_event import AuditEvent
from models.identity.known_address import KnownAddress
from models.identity.token import Token
from models.identity.user import User
from models.set_aside import SetAside
from models.storage.base import utcnow
from models.storage.batches import BATCH
from models.storage.database import Database
from models.storage.reader import Reader

_AT_ONCE = 50
"""Number of accounts, or of tokens, that one run looks at."""
_DELAY = timedelta(minutes=10)
"""Time from the end of an account's tokens to their deletion. It is longer than any request takes,
so that no request can add a token or an event afterwards."""


def delete_ended_tokens(database: Database) -> bool:
    """Delete some tokens that expired or were ended one by one; return whether more may be left.

    Raises:
        DatabaseUnavailable: The database failed. Nothing was deleted.
    """
    for over in (Token.expires_at <= utcnow(), Token.ended_at.is_not(None)):
        ids = database.read(partial(_find, over=over), single=True)
        deleted = bool(ids) and database.transact(partial(_delete, ids=ids, over=over), write=True)
        if deleted:
            return True
    return False


def clear_ended_accounts(database: Database, aside: SetAside[int]) -> bool:
    """Delete the tokens of accounts whose tokens all ended, and return whether more may be left.

    For an erased account, this also removes what was recorded about it during the erasure. Accounts
    that fail are set aside.

    Raises:
        DatabaseUnavailable: The database failed. Accounts already cleared stay cleared.
        Exception: As in `SetAside.attempt`.
    """
    ended = User.tokens_ended_at < utcnow() - _DELAY
    query = select(User.id).where(ended, User.id.not_in(aside.keys))
    query = query.order_by(User.tokens_ended_at).limit(_AT_ONCE)
    found = database.read(lambda reader: list(reader.scalars(query)), single=True)
    cleared = 0
    for user_id in found:
        work = partial(_clear, user_id=user_id, ended=ended)
        cleared += aside.attempt(user_id, partial(database.transact, work, write=True)) or 0
    return cleared > 0


def _find(reader: Reader, *, over: ColumnElement[bool]) -> Sequence[UUID]:
    return reader.scalars(select(Token.id).where(over).limit(_AT_ONCE)).all()


def _clear(session: Session, *, user_id: int, ended: ColumnElement[bool]) -> bool:
    query = select(User.token_version, User.erased_at).where(User.id == user_id, ended)
    user = session.execute(query.with_for_update(skip_locked=True)).one_or_none()
    if user is None:
        return False
    over = (Token.user_id == user_id) & (Token.token_version != user.token_version)
    if ids := _find(session, over=over):
        return _delete(session, ids=ids, over=over)
    if user.erased_at is not None:
        AuditEvent.forget(session, user_id)
        KnownAddress.forget(session, user_id)
    cleared = update(User).where(User.id == user_id)
    session.execute(cleared.values(tokens_ended_at=None, updated_at=User.updated_at))
    return True


def _delete(session: Session, *, ids: Sequence[UUID], over: ColumnElement[bool]) -> bool:
    """Delete up to 500 refresh tokens of tokens that are over, or else the tokens themselves.

    A session has thousands of refresh tokens, which a single DELETE of it would delete as well.
    Return `False` if other transactions have locked all of the tokens.
    """
    query = select(Token.id).where(Token.id.in_(ids), over).with_for_update(skip_locked=True)
    free = session.scalars(query).all()
    theirs = select(RefreshToken.hash).where(RefreshToken.session_id.in_(free)).limit(BATCH)
    hashes = session.scalars(theirs).all()
    connection = session.connection()
    connection.execute(delete(RefreshToken).where(RefreshToken.hash.in_(hashes)))
    if len(hashes) < BATCH:
        connection.execute(delete(Token).where(Token.id.in_(free)))
    return bool(free)
