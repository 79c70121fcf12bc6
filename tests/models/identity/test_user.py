from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from models.errors import (
    AccessEnded,
    EmailTaken,
    InvalidEmail,
    InvalidName,
    NotFound,
    VersionMismatch,
)
from models.identity.user import User
from models.storage.database import Database
from tests.factories import ROOT, Person, make_user
from tests.models.actions import Change, change_user, erase_user
from tests.models.reading import read_page, read_user
from tests.models.together import together


def register(database: Database, name: str, email: str) -> User:
    return database.transact(
        lambda session: User.register(session, name=name, email=email, password_hash=None),
        write=True,
    )


def test_registering_creates_an_active_ordinary_account(database: Database) -> None:
    before = datetime.now(UTC)

    user = register(database, " Rene\u0301e ", "Renee@Example.com")

    assert (user.name, user.email, user.email_key) == (
        "Ren\u00e9e",
        "Renee@Example.com",
        "renee@example.com",
    )
    assert (user.role, user.active, user.email_verified) == ("user", True, False)
    assert (user.version, user.token_version, user.password_hash) == (1, 1, None)
    assert before <= user.created_at == user.updated_at <= datetime.now(UTC)


def test_times_are_read_back_in_utc_to_the_microsecond(database: Database) -> None:
    user = make_user(database)
    user.created_at = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
    database.transact(lambda session: session.merge(user), write=True)

    read = read_user(database, user.id)

    assert read.created_at == user.created_at
    assert read.created_at.tzinfo is UTC
    assert read.created_at.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused(database: Database) -> None:
    user = make_user(database)
    user.erased_at = datetime(2026, 1, 1)  # noqa: DTZ001 - it has no zone on purpose

    with pytest.raises(Exception, match="without a zone"):
        database.transact(lambda session: session.merge(user), write=True)


@pytest.mark.parametrize(
    "twin", ["alice@example.com", "ALICE@example.COM", "al\u0131ce@example.com"]
)
def test_a_twin_of_an_address_cannot_be_registered(database: Database, twin: str) -> None:
    register(database, "Alice", "alice@example.com")

    with pytest.raises(EmailTaken):
        register(database, "Mallory", twin)


def test_concurrent_registrations_of_twins_make_one_account(database: Database) -> None:
    spellings = [
        "".join(c.upper() if bits >> place & 1 else c for place, c in enumerate("alice"))
        for bits in range(8)
    ]

    results = together(
        *(
            lambda email=f"{spelling}@example.com": register(database, "Alice", email)
            for spelling in spellings
        )
    )

    assert sorted(type(result).__name__ for result in results) == ["EmailTaken"] * 7 + ["User"]


@pytest.mark.parametrize(
    ("name", "email", "error"),
    [("\x00", "alice@example.com", InvalidName), ("Alice", "alice", InvalidEmail)],
)
def test_an_invalid_account_is_not_stored(
    database: Database, name: str, email: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        register(database, name, email)

    assert not read_page(database, limit=1).items


def test_a_created_administrator_is_active_and_verified(database: Database) -> None:
    user = database.transact(
        lambda session: User.create_administrator(
            session, name="Root", email="root@example.com", password_hash="h"
        ),
        write=True,
    )

    assert (user.role, user.active, user.email_verified) == ("admin", True, True)
    assert user.version == 1


def test_an_id_is_never_reused(database: Database) -> None:
    first = make_user(database)
    database.transact(
        lambda session: session.execute(delete(User).where(User.id == first.id)), write=True
    )

    assert make_user(database).id > first.id


def test_users_see_themselves_and_administrators_see_everybody(database: Database) -> None:
    alice, bob = make_user(database), make_user(database)

    def sees(actor: Person, user_id: int) -> bool:
        try:
            database.transact(lambda s: User.visible_to(s, actor, user_id), write=False)
        except NotFound:
            return False
        return True

    assert sees(Person(alice.id), alice.id)
    assert not sees(Person(alice.id), bob.id)
    assert not sees(Person(alice.id), bob.id + 1)
    assert sees(ROOT, bob.id)
    assert not sees(ROOT, bob.id + 1)
    erase_user(database, bob.id)
    assert not sees(ROOT, bob.id)
    assert not sees(Person(bob.id), bob.id)


def test_users_read_their_own_account_until_it_is_erased(database: Database) -> None:
    alice = make_user(database)

    def own() -> User:
        return database.transact(lambda s: User.of(s, Person(alice.id)), write=False)

    assert own().email == alice.email
    erase_user(database, alice.id)
    with pytest.raises(AccessEnded):
        own()


def test_an_account_is_found_by_every_twin_of_its_address(database: Database) -> None:
    alice = make_user(database, email="Alice@example.com")

    def find(email: str) -> int | None:
        user = database.transact(lambda session: User.by_email(session, email), write=False)
        return user.id if user else None

    assert find("alice@example.com") == alice.id
    assert find("ALICE@EXAMPLE.COM") == alice.id
    assert find("bob@example.com") is None
    assert find("no address") is None
    assert find(f"{alice.id}@erased.invalid") is None


def test_a_change_requires_a_known_version(database: Database) -> None:
    alice = make_user(database)

    alice.require_version(None)
    alice.require_version(frozenset({1, 7}))
    for versions in (frozenset({2}), frozenset[int]()):
        with pytest.raises(VersionMismatch):
            alice.require_version(versions)


def test_omitted_members_stay_unchanged(database: Database) -> None:
    alice = make_user(database, name="Alice", password_hash="h")

    changed = change_user(database, alice.id, name="Alicia")

    assert (changed.name, changed.email, changed.password_hash) == ("Alicia", alice.email, "h")
    assert changed.version == 2
    assert changed.updated_at > changed.created_at
    assert changed.token_version == 1


def test_a_change_without_effect_changes_nothing(database: Database) -> None:
    alice = make_user(database, name="Alice", email="alice@example.com")

    changed = change_user(database, alice.id, name="Alice", role="user", active=True)

    assert (changed.version, changed.token_version) == (1, 1)
    assert read_user(database, alice.id).updated_at == alice.updated_at


@pytest.mark.parametrize(
    "change",
    [
        {"email": "new@example.com"},
        {"email": "ALICE@example.com"},
        {"role": "admin"},
        {"active": False},
        {"password_hash": "another"},
    ],
)
def test_changing_credentials_ends_all_tokens(database: Database, change: Change) -> None:
    alice = make_user(database, email="alice@example.com")

    assert change_user(database, alice.id, **change).token_version == 2


def test_moving_verifies_the_new_address_and_frees_the_old_one(database: Database) -> None:
    alice = make_user(database, email="alice@example.com")

    changed = change_user(database, alice.id, email="Alicia@example.com")

    assert (changed.email, changed.email_verified) == ("Alicia@example.com", True)
    make_user(database, email="alice@example.com")
    with pytest.raises(EmailTaken):
        register(database, "Mallory", "ALICIA@example.com")


def test_an_account_cannot_move_to_a_taken_address(database: Database) -> None:
    alice = make_user(database, email="alice@example.com")
    bob = make_user(database, email="bob@example.com")

    with pytest.raises(EmailTaken):
        change_user(database, bob.id, name="Robert", email="Alice@example.com")

    unchanged = read_user(database, bob.id)
    assert (unchanged.name, unchanged.email, unchanged.version) == (bob.name, bob.email, 1)
    assert alice.id != bob.id


def test_concurrent_changes_are_all_applied(database: Database) -> None:
    alice = make_user(database, name="A")

    def lengthen() -> None:
        def work(session: Session) -> None:
            user = User.visible_to(session, ROOT, alice.id)
            user.change(session, name=user.name + "a")

        database.transact(work, write=True)

    results = together(*[lengthen] * 12)

    assert results == [None] * 12
    assert read_user(database, alice.id).name == "A" + "a" * 12
    assert read_user(database, alice.id).version == 13


def test_one_of_changes_to_one_version_succeeds(database: Database) -> None:
    alice = make_user(database)

    def rename(name: str) -> None:
        def work(session: Session) -> None:
            user = User.visible_to(session, ROOT, alice.id)
            user.require_version(frozenset({1}))
            user.change(session, name=name)

        database.transact(work, write=True)

    results = together(*(lambda name=name: rename(name) for name in "ABCDEF"))

    assert (
        sorted(type(result).__name__ for result in results)
        == ["NoneType"] + ["VersionMismatch"] * 5
    )
    assert read_user(database, alice.id).version == 2


def test_an_upgraded_hash_ends_no_token_and_makes_no_version(database: Database) -> None:
    alice = make_user(database, password_hash="old")

    database.transact(
        lambda s: s.merge(alice, load=False).upgrade_password_hash(s, "new"), write=True
    )

    upgraded = read_user(database, alice.id)
    assert upgraded.password_hash == "new"
    assert (upgraded.version, upgraded.token_version) == (1, 1)
    assert upgraded.updated_at == alice.updated_at


def test_an_upgraded_hash_does_not_undo_a_change_of_password(database: Database) -> None:
    alice = make_user(database, password_hash="old")
    change_user(database, alice.id, password_hash="chosen meanwhile")

    database.transact(
        lambda s: s.merge(alice, load=False).upgrade_password_hash(s, "new"), write=True
    )

    assert read_user(database, alice.id).password_hash == "chosen meanwhile"
