"""Limits on the number of messages sent to a mailbox.

Anyone can cause a message by registering an address, requesting a link, or requesting a change of
email address. The limit applies to the mailbox and not to the account, so it cannot be evaded by
registering a deleted account again or by adding a tag (`name+tag@`).
"""

import hmac
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import (
    Delete,
    Index,
    LargeBinary,
    String,
    bindparam,
    delete,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.identity.email_address import EmailAddress
from models.storage.base import Base, UTCDateTime, utcnow

_DAY = timedelta(days=1)


class MessageAllowance(NamedTuple):
    """A rate limit: up to `burst` messages at once, and one more after each `interval`."""

    name: str
    burst: int
    interval: timedelta


SOLICITED_BY_ANYONE = MessageAllowance("anyone", 5, _DAY / 5)
"""Allowance for messages that anyone can cause: at most 10 in any 24 hours."""
PASSWORD_LINK = MessageAllowance("password", 1, timedelta(hours=1))
"""Separate allowance for links to set a password, so that a flood of other messages cannot lock out
an owner. It applies to the address and not to the mailbox (`address_of`)."""
NOTICE = MessageAllowance("notice", 25, _DAY / 25)
"""Allowance for notices of a changed password or address: at most 50 in any 24 hours. Only verified
addresses receive them, so only the owner can cause them."""


class MailboxUse(Base):
    """The use of an allowance by a mailbox.

    `mailbox` is a keyed hash (HMAC-SHA-256), which outlives the account but does not reveal the
    address. `used_until` is the time when the full allowance is available again, at most a day
    later. The row can then be deleted. The generic cell rate algorithm (ITU-T I.371) needs no row
    per message.
    """

    __tablename__ = "mailbox_uses"

    mailbox: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    allowance: Mapped[str] = mapped_column(String(16), primary_key=True)
    used_until: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (Index(None, "used_until"),)

    @classmethod
    def lock_all(
        cls, session: Session, allowances: Collection[tuple[bytes, str]]
    ) -> Mapping[tuple[bytes, str], "MailboxUse"]:
        """Lock the rows of pairs of a mailbox and the name of an allowance, and return them.

        Missing rows are created. Rows are locked in one order, which prevents deadlocks.
        """
        if not allowances:
            return {}
        names = ("mailbox", "allowance")
        now = {"used_until": utcnow()}
        rows = [dict(zip(names, pair, strict=True)) | now for pair in sorted(allowances)]
        session.execute(_LOCK, rows)
        key = tuple_(cls.mailbox, cls.allowance)
        query = select(cls).where(key.in_(allowances))
        current = query.execution_options(populate_existing=True)
        return {(use.mailbox, use.allowance): use for use in session.scalars(current)}

    def spend(self, allowance: MessageAllowance) -> bool:
        """Use one message of the allowance, and return whether one was left."""
        now = utcnow()
        used_until = max(self.used_until, now) + allowance.interval
        if used_until > now + allowance.burst * allowance.interval:
            return False
        self.used_until = used_until
        return True

    @classmethod
    def purge(cls) -> Delete:
        """Return the statement that deletes all rows whose full allowance is available again."""
        return delete(cls).where(cls.used_until < utcnow())


# This is plain SQL because SQLAlchemy has no ON CONFLICT construct common to both databases. The
# update changes nothing, but locks an existing row, which could otherwise be purged before it is
# read.
_LOCK = text(
    "INSERT INTO mailbox_uses (mailbox, allowance, used_until)"
    " VALUES (:mailbox, :allowance, :used_until) ON CONFLICT (mailbox, allowance)"
    " DO UPDATE SET used_until = mailbox_uses.used_until"
).bindparams(bindparam("used_until", type_=UTCDateTime))


def mailbox_of(email: str, key: bytes) -> bytes:
    """Return the keyed hash of an address's mailbox, which is the address without its tag."""
    local, _, domain = EmailAddress.normal_form(email).rpartition("@")
    name = local.partition("+")[0] or local
    return hmac.digest(key, f"{name}@{domain}".encode(), "sha256")


def address_of(email: str, key: bytes, *, is_verified: bool) -> bytes:
    """Return the keyed hash under which links to set a password are counted for an address.

    Anyone can register tagged addresses of another person's mailbox. All unverified tagged
    addresses of a mailbox therefore share one allowance, separate from the allowances of verified
    and untagged addresses.
    """
    local, _, domain = EmailAddress.normal_form(email).rpartition("@")
    name, has_tag, _ = local.partition("+")
    if has_tag and name and not is_verified:
        # A valid local part never ends with a space, so this cannot equal another address.
        local = f"{name} "
    return hmac.digest(key, f"{local}@{domain}".encode(), "sha256")
