"""What is done about tokens while nobody asks: ended ones are removed, and uses written down."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from uuid import UUID

from models.database import Database
from models.token import Token

_BATCH = 50
"""Tokens; a session can have thousands of refresh tokens, which go with it."""


def purge_tokens(database: Database) -> None:
    """Remove all tokens that hold no longer, a few at a time.

    Raises:
        DatabaseUnavailable: what was removed so far stays so.
    """
    while database.transact(lambda session: Token.purge(session, _BATCH), write=True) == _BATCH:
        pass


def note_uses(database: Database, take: Callable[[], Mapping[UUID, datetime]]) -> None:
    """Write down when tokens were used, as far as that is remembered.

    Raises:
        DatabaseUnavailable: what was taken is not written down any more.
    """
    uses = take()
    if uses:
        database.transact(partial(Token.note_uses, uses=uses), write=True)
