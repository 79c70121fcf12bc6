"""Sessions that are begun straight in the database, because hashing a password takes its time."""

from datetime import timedelta
from functools import partial

from api.security import Tokens
from api.signing import KeyRing
from models.audit_event import Origin
from models.database import Database
from models.session import Grant, SessionRules, start_session
from models.user import User

_DAY = timedelta(days=1)


def begin_session(database: Database, user: User, keys: KeyRing) -> Grant:
    """Begin a session, as a sign-in would have done while the account was as `user` says."""
    rules = SessionRules(
        idle=_DAY,
        longest=_DAY,
        strict_administrators=False,
        refresh_key=keys.derive("refresh-tokens"),
    )
    start = partial(start_session, user=user, rules=rules, origin=Origin())
    return database.transact(start, write=True)


def access_token(database: Database, user: User, keys: KeyRing, issuer: str) -> str:
    """Sign the access token of a new session."""
    return Tokens(keys, issuer).issue(begin_session(database, user, keys)).access_token
