"""What happened to accounts: who did what to whom, from where. It is written, and not changed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Index, String, Uuid, delete, select, true, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.actor import Actor
from models.base import Base, BigId, UTCDateTime, utcnow
from models.database import Database
from models.identifiers import first_id_from, instant_of, new_id
from models.page import Page
from models.user import User

AuditAction = Literal[
    "account.create",
    "account.delete",
    "account.disable",
    "account.enable",
    "account.require-password-change",
    "account.role",
    "email.change",
    "email.change-request",
    "email.verify",
    "key.create",
    "password.change",
    "password.reset",
    "password.reset-request",
    "refresh.replay",
    "second-factor.confirm",
    "second-factor.disable",
    "second-factor.enrol",
    "second-factor.recovery-codes",
    "session.end-all",
    "sign-in",
    "sign-in.challenge",
    "sign-in.second-factor",
    "token.end",
]


_BATCH = 500


class Origin(NamedTuple):
    """Where a request came from, as far as those who look into it later need to know."""

    address: str | None = None
    request_id: str | None = None
    user_agent: str | None = None
    actor_id: int | None = None
    token_id: UUID | None = None


class AuditEvent(Base):
    """One thing that was done, or tried, to an account.

    `user_id` is the account it was done to, `actor_id` the one whose token it was done with: both
    are `None` where nobody is known. It holds no text that anybody sent but the request's id.
    """

    __tablename__ = "audit_events"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    action: Mapped[str] = mapped_column(String(40))
    succeeded: Mapped[bool] = mapped_column()
    # No foreign keys: accounts are never deleted, and PostgreSQL would look for those there are and
    # not for those there are not, so that the time of a failed sign-in told one from the other.
    actor_id: Mapped[int | None] = mapped_column(BigId)
    user_id: Mapped[int | None] = mapped_column(BigId)
    token_id: Mapped[UUID | None] = mapped_column(Uuid)
    address: Mapped[str | None] = mapped_column(String(45))
    request_id: Mapped[str | None] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (
        # Lists come by id, which is by age: of an account, of an action, or of both.
        Index(None, "user_id", "id"),
        Index(None, "action", "id"),
        Index(None, "user_id", "action", "id"),
        Index(None, "actor_id"),
    )

    @classmethod
    def record(
        cls,
        session: Session,
        action: AuditAction,
        origin: Origin,
        *,
        user_id: int | None,
        succeeded: bool = True,
    ) -> None:
        """Write down what was done to an account, in the transaction that did it."""
        identifier = new_id()
        event = cls(
            id=identifier,
            action=action,
            succeeded=succeeded,
            actor_id=origin.actor_id,
            user_id=user_id,
            token_id=origin.token_id,
            address=origin.address,
            request_id=origin.request_id,
            created_at=instant_of(identifier),
        )
        session.add(event)

    @classmethod
    def page(
        cls,
        session: Session,
        actor: Actor,
        *,
        user_id: int | None = None,
        action: AuditAction | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        after: Sequence[object] | None = None,
        limit: int,
    ) -> Page["AuditEvent"]:
        """Read the events of the accounts that the actor may know of, the newest first.

        `created_from` is within the bounds, `created_to` is the first instant outside.
        """
        query = select(cls).where(true() if actor.is_admin else cls.user_id == actor.user_id)
        if user_id is not None:
            query = query.where(cls.user_id == user_id)
        if action is not None:
            query = query.where(cls.action == action)
        # The id has the time in it, so the bounds are of the id.
        if created_from is not None:
            query = query.where(cls.id >= first_id_from(created_from))
        if created_to is not None:
            query = query.where(cls.id < first_id_from(created_to))
        page = Page.read(session, query, [cls.id], after=after, limit=limit, descending=True)
        for event in page.items:
            if not actor.is_admin and event.actor_id not in (None, actor.user_id):
                # From where an administrator works is none of a user's business.
                session.expunge(event)
                event.address = event.request_id = event.token_id = None
        return page

    @classmethod
    def purge(cls, session: Session, before: datetime, limit: int) -> int:
        """Remove the oldest events, from before an instant, and say how many: at most `limit`."""
        oldest = select(cls.id).where(cls.id < first_id_from(before)).order_by(cls.id).limit(limit)
        batch = oldest.with_for_update(skip_locked=True)
        gone = delete(cls).where(cls.id.in_(batch)).returning(cls.id)
        rows = gone.execution_options(synchronize_session=False)
        return len(session.execute(rows).all())

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Remove from where an account was used; that it was stays on record, by its number."""
        # The events that this transaction wrote have to be in the table for that.
        session.flush()
        own = (cls.user_id == user_id) | (cls.actor_id == user_id)
        session.execute(update(cls).where(own).values(address=None, request_id=None))


def purge_events(database: Database, keep: timedelta) -> None:
    """Remove all events older than `keep`, a few at a time, so that nobody waits for long.

    Raises:
        DatabaseUnavailable: what was removed so far stays so.
    """
    work = partial(AuditEvent.purge, before=utcnow() - keep, limit=_BATCH)
    while database.transact(work, write=True) == _BATCH:
        pass


def forget_erased(database: Database) -> None:
    """Finish what an erasure could not see: events that were written at the same moment.

    Raises:
        DatabaseUnavailable: nothing is lost by that.
    """
    erased = select(User.id).where(User.erased_at.is_not(None))
    of_erased = AuditEvent.user_id.in_(erased) | AuditEvent.actor_id.in_(erased)
    query = update(AuditEvent).where(of_erased, AuditEvent.address.is_not(None))
    emptied = query.values(address=None, request_id=None)
    options = {"synchronize_session": False}
    database.transact(
        lambda session: session.execute(emptied, execution_options=options), write=True
    )
