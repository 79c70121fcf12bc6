from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import select

from models.demo.demo_accounts import DEMO_PASSWORD, seed_demo_users
from models.identity.password import OWASP, Passwords
from models.identity.user import User
from models.storage.database import Database
from tests.models.actions import erase_user

PASSWORDS = Passwords(parameters=replace(OWASP, time_cost=1, memory_cost=8))


def read_all(database: Database) -> list[User]:
    return database.transact(
        lambda session: list(session.scalars(select(User).order_by(User.id))), write=False
    )


def test_demo_users_are_plausible_and_distinct(database: Database) -> None:
    assert seed_demo_users(database, PASSWORDS) == 300

    users = read_all(database)
    assert len({user.email_key for user in users}) == 300
    assert len({user.name for user in users}) > 250
    assert len({user.created_at for user in users}) == 300
    assert all(user.updated_at == user.created_at for user in users)
    assert Counter(user.active for user in users)[False] > 10
    assert Counter(user.email_verified for user in users)[False] > 10
    assert {len(user.name.split()) for user in users} == {2}
    assert all(user.email.isascii() for user in users)


def test_demo_users_share_a_known_password_without_administrators(database: Database) -> None:
    seed_demo_users(database, PASSWORDS, count=20)

    (password_hash,) = {user.password_hash for user in read_all(database)}
    assert PASSWORDS.verify(password_hash, DEMO_PASSWORD)
    assert {user.role for user in read_all(database)} == {"user"}


def test_demo_users_are_reproducible(database: Database) -> None:
    seed_demo_users(database, PASSWORDS, count=26)

    seen = [(user.name, user.email, user.active) for user in read_all(database)]
    assert seen[0] == ("Amélie Aubert", "amelie.aubert0@example.com", False)
    assert seen[8] == ("佐藤 健太", "kenta.sato8@example.org", True)
    assert seen[25] == ("Camila Domínguez", "camila.dominguez25@example.net", True)


def test_seeding_again_adds_only_what_is_missing(database: Database) -> None:
    seed_demo_users(database, PASSWORDS, count=60)
    assert seed_demo_users(database, PASSWORDS, count=60) == 0
    erase_user(database, read_all(database)[7].id)

    assert seed_demo_users(database, PASSWORDS, count=70) == 11


@pytest.mark.parametrize("count", [1, 50, 51, 120])
def test_progress_reaches_the_end(database: Database, count: int) -> None:
    calls: list[tuple[int, int]] = []

    seed_demo_users(
        database, PASSWORDS, count=count, progress=lambda done, of: calls.append((done, of))
    )

    assert calls == sorted(calls)
    assert calls[-1] == (count, count)
