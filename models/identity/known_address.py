"""Network addresses an account's owner has used, so that password guessing cannot lock them out."""

from datetime import datetime, timedelta

from sqlalchemy import (
    Delete,
    ForeignKey,
    Index,
    String,
    bindparam,
    delete,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.identity.audit_event import RequestOrigin
from models.identity.user import User
from models.storage.base import ERASED, Base, UTCDateTime, utcnow
from models.storage.reader import Reader

_MOST = 20
"""Maximum number of addresses stored per account. The most recently used ones are kept."""
_KEPT = timedelta(days=30)
"""Time an address stays known after its last use."""
# This is plain SQL because SQLAlchemy has no ON CONFLICT construct common to both databases.
_NOTE = text(
    "INSERT INTO known_addresses (user_id, network, used_at) VALUES (:user_id, :network, :used_at)"
    " ON CONFLICT (user_id, network) DO UPDATE SET used_at = excluded.used_at"
).bindparams(bindparam("used_at", type_=UTCDateTime))


class KnownAddress(Base):
    """An IPv4 address or IPv6 /64 network that the account's owner has used.

    An address becomes known when someone registers the account from it, enters the correct
    password, or follows a link sent to the account's email address. The address is not hashed,
    because sessions and audit events store full addresses anyway.
    """

    __tablename__ = "known_addresses"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, info=ERASED)
    network: Mapped[str] = mapped_column(String(43), primary_key=True)
    used_at: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (Index(None, "used_at"),)

    @classmethod
    def note(cls, session: Session, user: User, origin: RequestOrigin) -> None:
        """Record the owner's current address, and drop the least recently used beyond the limit."""
        if not origin.network:
            return
        values = {"user_id": user.id, "network": origin.network, "used_at": utcnow()}
        session.execute(_NOTE, values)
        own = cls.user_id == user.id
        newest = select(cls.network).where(own).order_by(cls.used_at.desc(), cls.network)
        surplus = delete(cls).where(own, cls.network.in_(newest.offset(_MOST)))
        session.execute(surplus.execution_options(synchronize_session=False))

    @classmethod
    def is_known(cls, reader: Reader, email_key: str, network: str) -> bool:
        """Return whether an account's owner has used a network in the last 30 days.

        The check takes one statement whether or not an account with that email address exists.
        """
        query = select(cls.user_id).join(User, User.id == cls.user_id)
        query = query.where(User.email_key == email_key, User.exists())
        query = query.where(cls.network == network, cls.used_at > utcnow() - _KEPT)
        return reader.execute(query).first() is not None

    @classmethod
    def forget(cls, session: Session, user_id: int) -> None:
        """Delete all known addresses of an account."""
        query = delete(cls).where(cls.user_id == user_id)
        session.execute(query.execution_options(synchronize_session=False))

    @classmethod
    def purge(cls) -> Delete:
        """Return the statement that deletes expired addresses."""
        return delete(cls).where(cls.used_at < utcnow() - _KEPT)
