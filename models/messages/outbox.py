"""Taking messages from the outbox: which are sent, to whom, and with which links."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models.identity.one_time_token import NewToken, OneTimeToken
from models.identity.user import User
from models.messages.mailbox import MailboxUse
from models.messages.message import Letter, Message, Withheld
from models.storage.base import utcnow

LEASE = timedelta(seconds=60)
"""Time for which a sender leases messages."""
BATCH = 20
"""Messages that a sender takes at once."""
_BATCHES = 50
"""Maximum number of batches that one transaction searches for messages to send."""


def take_letters(
    session: Session, mailbox_key: bytes, limit: int = BATCH
) -> list[Letter | Withheld]:
    """Lease up to `limit` messages, longest due first, and issue the secrets of their links.

    The lease lasts a minute. Messages without a recipient, or no longer useful to it, are
    deleted on the way. If a mailbox has reached its limit, its message is deleted and returned
    as `Withheld`. `mailbox_key` is the key of the hashes by which mailboxes are counted.
    """
    due = select(Message).where(Message.due_at <= utcnow()).order_by(Message.due_at).limit(BATCH)
    taken: list[Letter | Withheld] = []
    for _ in range(_BATCHES):
        batch = session.scalars(due.with_for_update(skip_locked=True)).all()
        taken += _take_from(session, batch, mailbox_key, limit - len(taken))
        session.flush()
        if len(batch) < BATCH or len(taken) >= limit:
            break
    return taken


def _take_from(
    session: Session, batch: Sequence[Message], mailbox_key: bytes, limit: int
) -> list[Letter | Withheld]:
    readers = _find_readers(session, batch)
    # A retry does not count again.
    counted = {
        message: message.allowances(user, mailbox_key)
        for message, user in readers
        if user is not None and message.is_wanted_by(user) and not message.attempts
    }
    pairs = {(box, each.name) for found in counted.values() for box, each in found}
    uses = MailboxUse.lock_all(session, pairs)
    withheld: list[Withheld] = []
    leased: list[tuple[Message, User]] = []
    for message, user in readers:
        if len(withheld) + len(leased) == limit:
            break
        wanted = user is not None and message.is_wanted_by(user)
        allowances = counted.get(message, [])
        allowed = bool(message.attempts) or any(
            uses[box, each.name].spend(each) for box, each in allowances
        )
        message.note_request(session, user, succeeded=wanted and allowed)
        if user is not None and wanted and allowed:
            message.attempts += 1
            message.due_at = utcnow() + LEASE
            leased.append((message, user))
            continue
        session.delete(message)
        if wanted:
            withheld.append(Withheld(message.id, message.kind))
    return [*withheld, *_letters(session, leased)]


def _find_readers(session: Session, batch: Sequence[Message]) -> list[tuple[Message, User | None]]:
    """Return the account that receives each message, or `None` if there is none.

    The accounts are locked against changes. A concurrent erasure then either waits and deletes the
    new links, or is visible here.
    """
    ids = {message.user_id for message in batch}
    keys = {message.email for message in batch if message.user_id is None}
    known = select(User).where(User.exists(), or_(User.id.in_(ids), User.email_key.in_(keys)))
    # Locking in one order prevents deadlocks.
    accounts: dict[int | str | None, User] = {}
    for user in session.scalars(known.order_by(User.id).with_for_update(read=True)):
        accounts[user.id] = accounts[user.email_key] = user
    return [
        (message, accounts.get(message.email if message.user_id is None else message.user_id))
        for message in batch
    ]


def _letters(session: Session, leased: Sequence[tuple[Message, User]]) -> list[Letter]:
    """Return letters to accounts, with new secrets for those that have links."""
    links = {message: message.link_for(user) for message, user in leased}
    # A seemingly failed attempt may have arrived, so its link stays valid too.
    tokens = [
        NewToken(user, link.purpose, link.lifetime, message.email or user.email)
        for message, user in leased
        if (link := links[message]) is not None
    ]
    secrets = iter(OneTimeToken.issue_all(session, tokens))
    return [
        Letter(
            message.id,
            message.kind,
            message.attempts,
            message.email or user.email,
            user.name,
            links[message],
            None if links[message] is None else next(secrets),
        )
        for message, user in leased
    ]
