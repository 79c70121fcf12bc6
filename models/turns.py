"""What only one transaction may do at a time, where no single row could be locked for it."""

from enum import IntEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session


class Turn(IntEnum):
    """The keys of the advisory locks, one for each rule that needs turns."""

    REMOVE_ADMINISTRATOR = 1


def take_turn(session: Session, turn: Turn) -> None:
    """Wait until no other transaction has this turn. It ends with the transaction.

    What is read afterwards includes all that those before have done. On SQLite there is nothing to
    wait for: a transaction that changes what another has read makes that one start again.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(int(turn))))
