"""Accounts that nobody has ever used are erased, and no others (MISSION M11)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from models.accounts.unclaimed import erase_unclaimed
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.token import Token
from models.identity.user import User
from models.set_aside import SetAside
from models.storage.base import utcnow
from models.storage.database import Database
from tests.factories import LIFECYCLE, make_order, make_user

pytestmark = pytest.mark.mission("M11")

KEEP, AUDITED = timedelta(days=30), timedelta(days=365)


def make_old(database: Database, days: int = 31) -> int:
    """An account without a verified address, made some days ago."""
    user = make_user(database)

    def age(session: Session) -> None:
        session.get_one(User, user.id).created_at = utcnow() - timedelta(days=days)

    database.transact(age, write=True)
    return user.id


def never(key: object, error: Exception) -> None:
    raise AssertionError(key) from error


def is_erased(database: Database, user_id: int) -> bool:
    while erase_unclaimed(database, LIFECYCLE, KEEP, AUDITED, SetAside(never)):
        pass
    return database.transact(
        lambda session: session.get_one(User, user_id).erased_at is not None, write=False
    )


def test_an_account_that_nobody_used_ends_with_its_data(database: Database) -> None:
    user_id = make_old(database)
    assert is_erased(database, user_id)

    def read(session: Session) -> tuple[str, str]:
        user = session.get_one(User, user_id)
        return user.name, user.email

    assert database.transact(read, write=False) == ("Erased", f"{user_id}@erased.invalid")


@pytest.mark.parametrize("days", [29, 366])
def test_newer_accounts_and_those_of_unknown_use_are_kept(database: Database, days: int) -> None:
    assert not is_erased(database, make_old(database, days))


def sign_in(session: Session, user: User) -> None:
    AuditEvent.record(session, "sign-in", RequestOrigin(), user_id=user.id)


def begin(session: Session, user: User) -> None:
    lifetime = timedelta(days=1)
    Token.begin(session, user, "session", scopes=[], lifetime=lifetime, origin=RequestOrigin())


@pytest.mark.parametrize(
    "use",
    [
        sign_in,
        begin,
        lambda _session, user: setattr(user, "email_verified", True),
        lambda _session, user: setattr(user, "role", "admin"),
        lambda _session, user: setattr(user, "active", False),
    ],
    ids=["signed-in", "token", "verified", "administrator", "disabled"],
)
def test_an_account_in_use_is_kept(
    database: Database, use: Callable[[Session, User], None]
) -> None:
    user_id = make_old(database)
    database.transact(lambda session: use(session, session.get_one(User, user_id)), write=True)
    assert not is_erased(database, user_id)


def test_a_failed_sign_in_is_no_use(database: Database) -> None:
    user_id = make_old(database)

    def fail(session: Session) -> None:
        origin = RequestOrigin()
        AuditEvent.record(session, "sign-in", origin, user_id=user_id, succeeded=False)

    database.transact(fail, write=True)
    assert is_erased(database, user_id)


def test_an_account_with_orders_is_kept(database: Database) -> None:
    order = make_order(database)

    def age(session: Session) -> None:
        user = session.get_one(User, order.user_id)
        user.created_at, user.email_verified = utcnow() - timedelta(days=31), False

    database.transact(age, write=True)
    assert not is_erased(database, order.user_id)
