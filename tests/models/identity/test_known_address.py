"""Network addresses of owners are stored, limited in number, and deleted in the end (M13)."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.accounts.account import erase_account
from models.identity.audit_event import RequestOrigin
from models.identity.known_address import KnownAddress
from models.identity.user import User
from models.storage.base import utcnow
from models.storage.database import Database
from tests.databases import change_all, delete_ended
from tests.factories import LIFECYCLE, ROOT, make_user
from tests.models.actions import erase_user
from tests.models.together import together

pytestmark = pytest.mark.mission("M13")

HOME = "198.51.100.7"


def note(database: Database, user: User, network: str | None) -> None:
    database.transact(
        lambda session: KnownAddress.note(session, user, RequestOrigin(network=network)), write=True
    )


def is_known(database: Database, user: User, network: str) -> bool:
    return database.read(lambda reader: KnownAddress.is_known(reader, user.email_key, network))


def networks(database: Database) -> list[str]:
    query = select(KnownAddress.network).order_by(KnownAddress.used_at)
    return list(database.transact(lambda session: session.scalars(query).all(), write=False))


def age(database: Database, days: float) -> None:
    """Let time go by for all addresses."""

    def work(session: Session) -> None:
        then = utcnow() - timedelta(days=days)
        session.execute(update(KnownAddress).values(used_at=then))

    database.transact(work, write=True)


def test_an_address_is_known_to_the_account_that_used_it(database: Database) -> None:
    one, other = make_user(database), make_user(database)
    for _ in range(2):
        note(database, one, HOME)
    note(database, one, None)
    assert networks(database) == [HOME]
    assert is_known(database, one, HOME)
    assert not is_known(database, other, HOME)
    assert not is_known(database, one, "198.51.100.8")


def test_the_most_recently_used_addresses_are_kept(database: Database) -> None:
    user, other = make_user(database), make_user(database)
    note(database, other, HOME)
    for number in range(25):
        note(database, user, f"10.0.0.{number}")
        if number == 20:
            note(database, user, "10.0.0.2")
    kept = {"10.0.0.2", *(f"10.0.0.{number}" for number in range(6, 25))}
    assert len(kept) == 20
    assert sorted(networks(database)) == sorted(kept | {HOME})


def test_an_address_is_known_for_thirty_days(database: Database) -> None:
    user = make_user(database)
    note(database, user, HOME)
    age(database, 29)
    change_all(database, KnownAddress.purge)
    assert is_known(database, user, HOME)
    age(database, 31)
    assert not is_known(database, user, HOME)
    change_all(database, KnownAddress.purge)
    assert networks(database) == []


def test_an_erased_account_has_no_known_addresses(database: Database) -> None:
    user, late, other = (make_user(database) for _ in range(3))
    for each in (user, late, other):
        note(database, each, HOME)

    def erase(session: Session) -> None:
        row = User.visible_to(session, ROOT, user.id)
        erase_account(session, LIFECYCLE, row, by=ROOT, origin=RequestOrigin())

    database.transact(erase, write=True)
    assert not is_known(database, user, HOME)
    assert len(networks(database)) == 2
    # What was written at the same moment is deleted later.
    erase_user(database, late.id)
    assert not is_known(database, late, HOME)
    delete_ended(database)
    assert networks(database) == [HOME]
    assert is_known(database, other, HOME)


def test_concurrent_notes_of_an_address_make_one_row(database: Database) -> None:
    user = make_user(database)
    together(*[lambda: note(database, user, HOME)] * 8)
    assert networks(database) == [HOME]
