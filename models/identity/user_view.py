"""Read-only views of accounts: plain values, as in `models.orders.order_reading`."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, select

from models.actor import Actor
from models.errors import NotFound
from models.files.picture import Picture
from models.identity.user import Role, User
from models.storage.constants import constant
from models.storage.reader import Reader


class UserView(NamedTuple):
    """The public fields of an account, with the names of their columns."""

    id: int
    name: str
    email: str
    role: Role
    active: bool
    email_verified: bool
    password_change_required: bool
    avatar: Picture | None
    created_at: datetime
    updated_at: datetime
    version: int


_SHOWN = (getattr(User, name) for name in UserView._fields)
_USER = constant(select(*_SHOWN).where(User.exists(), User.id == bindparam("user_id")))


def view_user(reader: Reader, actor: Actor, user_id: int) -> UserView:
    """Return the view of one account.

    Raises:
        NotFound: The account does not exist or is not visible to the actor.
    """
    # Skipping the query makes existing and missing accounts take the same time.
    if not (actor.is_admin or actor.user_id == user_id):
        raise NotFound
    user = reader.execute(_USER, {"user_id": user_id}).one_or_none()
    if user is None:
        raise NotFound
    return UserView(*user)
