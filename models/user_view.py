"""Accounts as they are shown: plain rows, as in `models.order_view`."""

from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, bindparam, select

from models.actor import Actor
from models.errors import NotFound
from models.user import User

UserView: TypeAlias = Row[*tuple[Any, ...]]
"""What may be shown of an account, by the names of its columns."""

_SHOWN = (
    User.id,
    User.name,
    User.email,
    User.role,
    User.active,
    User.email_verified,
    User.password_change_required,
    User.created_at,
    User.updated_at,
    User.version,
)
_USER = select(*_SHOWN).where(User.exists(), User.id == bindparam("user_id"))


def view_user(connection: Connection, actor: Actor, user_id: int) -> UserView:
    """Show one account.

    Raises:
        NotFound: there is no such account, or the actor may not know of it.
    """
    # Another's account is not looked for, so that it takes as long as one that is not there.
    if not (actor.is_admin or actor.user_id == user_id):
        raise NotFound
    user = connection.execute(_USER, {"user_id": user_id}).one_or_none()
    if user is None:
        raise NotFound
    return user
