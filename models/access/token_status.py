"""The current status of a token: its account, role and scopes.

Nearly every request reads it, so the statements are built once. With `ADMIN_SECOND_FACTOR`, they
also check for a second factor. Without that setting, there is no extra cost.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Result,
    Select,
    SQLColumnExpression,
    bindparam,
    case,
    exists,
    false,
    select,
)
from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.identity.permission import SCOPES_OF_ROLE
from models.identity.token import Token
from models.identity.user import Role, User
from models.storage.constants import constant
from models.storage.reader import Reader


class TokenStatus(NamedTuple):
    """The account and scopes of an active token.

    `signed_in_at` is the time of the session's sign-in, which a refresh does not change. It is
    `None` for an API key.
    """

    token_id: UUID
    user_id: int
    role: Role
    token_version: int
    scopes: Sequence[str]
    signed_in_at: datetime | None


class TokenStatuses:
    """Reads token statuses under the configured rule for administrators.

    A user has only the scopes of a user, even with a session or an API key that was created with
    more. If `strict_administrators` is set, the same applies to an administrator without an active
    second factor.
    """

    def __init__(self, *, strict_administrators: bool) -> None:
        self._held_back = _lacks_second_factor() if strict_administrators else None
        self._statements = {
            (by_id, hold): _statement(self._held_back, by_id=by_id, hold=hold)
            for by_id in (False, True)
            for hold in (False, True)
        }

    def read(self, reader: Reader, credential: UUID | bytes) -> TokenStatus | None:
        """Return the status of a token by its id or API key hash, or `None` if it is not active."""
        return self.look_up(reader, credential)()

    def look_up(
        self, reader: Reader, credential: UUID | bytes, *, hold: bool = False
    ) -> Callable[[], TokenStatus | None]:
        """Look up the status of a token by its id or API key hash.

        Return a function that waits for the status, and returns it, or `None` if the token is not
        active. With `hold`, the account's row is locked against changes until the transaction ends.
        """
        statement = self._statements[isinstance(credential, UUID), hold]
        send = partial(reader.execute, statement, {"credential": credential})
        rows = send()

        def wait() -> TokenStatus | None:
            status = _status_in(rows)
            # If this waits for the lock, PostgreSQL compares the new row of the account with the
            # old one of the token. A second attempt sees both as they are now.
            return _status_in(send()) if status is None and hold else status

        return wait

    def scopes_of(self, session: Session, user: User) -> Sequence[str]:
        """Return the scopes of a new session of an account."""
        scopes = SCOPES_OF_ROLE[user.role]
        if self._held_back is None:
            return scopes
        query = select(self._held_back).where(User.id == user.id)
        return _of_a_user(scopes) if session.scalar(query) else scopes


_COLUMNS: Mapping[str, SQLColumnExpression[Any]] = {
    "token_id": Token.id,
    "user_id": Token.user_id,
    "role": User.role,
    "token_version": User.token_version,
    "scopes": Token.scopes,
    "signed_in_at": case((Token.kind == "session", Token.created_at)),
}


def _status_in(rows: Result[*tuple[Any, ...]]) -> TokenStatus | None:
    row = rows.one_or_none()
    if row is None:
        return None
    *columns, held_back = row
    status = TokenStatus(*columns)
    if held_back or status.role == "user":
        # A session that survives its owner's change to user was created with more scopes.
        return status._replace(scopes=_of_a_user(status.scopes))
    return status


def _of_a_user(scopes: Sequence[str]) -> list[str]:
    return [scope for scope in scopes if scope in SCOPES_OF_ROLE["user"]]


def _lacks_second_factor() -> ColumnElement[bool]:
    """Return the SQL condition for an administrator without an active second factor."""
    active = exists().where(SecondFactor.user_id == User.id, SecondFactor.confirmed_at.is_not(None))
    return (User.role == "admin") & ~active


def _statement(
    held_back: ColumnElement[bool] | None, *, by_id: bool, hold: bool
) -> Select[*tuple[Any, ...]]:
    query = (
        select(
            *(_COLUMNS[name] for name in TokenStatus._fields),
            false() if held_back is None else held_back,
        )
        .join(User, User.id == Token.user_id)
        .where(Token.holds(), (Token.id if by_id else Token.key_hash) == bindparam("credential"))
    )
    return constant(query.with_for_update(read=True, of=User) if hold else query)
