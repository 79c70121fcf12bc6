"""The list of accounts and its filters."""

from collections.abc import Sequence

from sqlalchemy import false, select

from models.identity.email_address import EmailAddress
from models.identity.user import Role, User
from models.identity.user_search import USER_WORDS
from models.storage.filtering import ListFilter, Selection
from models.storage.page import Listing, Page
from models.storage.reader import Reader


def find_users(
    reader: Reader,
    *,
    active: bool | None = None,
    role: Role | None = None,
    email: str | None = None,
    words: str | None = None,
    after: Sequence[object] | None = None,
    limit: int,
) -> Page[User]:
    """Return up to `limit` accounts in order of id, starting after the position `after`.

    At most one account has an address equal to `email` (see `EmailAddress`). Each of the `words` is
    a prefix of a word in the name or address.
    """
    query = select(User).where(User.exists())
    asked: Sequence[Selection] = ()
    if words is not None:
        asked = USER_WORDS.asked_for(words, User.id)
        query = query if asked else query.where(false())
    if email is not None:
        query = query.where(User.email_key == EmailAddress.normal_form(email))
    if active is not None:
        query = query.where(User.active == active)
    if role is not None:
        query = query.where(User.role == role)
    listing = Listing(query, [User.id], narrowed=ListFilter(across=asked))
    return listing.page(reader, after=after, limit=limit)
