"""Each test has its own service and database, even when tests run in parallel (M26)."""

from contextlib import ExitStack
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from models.identity.user import User
from models.identity.user_list import find_users
from models.storage.database import Database
from models.storage.migrating import migrate
from tests.api.accounts import read_account
from tests.databases import KINDS, make_database_url
from tests.factories import make_account
from tests.service import running

pytestmark = pytest.mark.mission("M26")


@pytest.mark.parametrize("kind", KINDS)
def test_two_test_services_share_nothing(tmp_path: Path, kind: str) -> None:
    with (
        make_database_url(kind, tmp_path) as one_url,
        make_database_url(kind, tmp_path) as other_url,
        running(tmp_path, one_url) as one,
        running(tmp_path, other_url) as other,
    ):
        assert one.url != other.url
        addresses = {each.client().headers["x-forwarded-for"] for each in (one, other, one)}
        assert len(addresses) == 3
        here, there = (make_account(each, name=name) for each, name in ((one, "A"), (other, "B")))
        assert here.id == there.id
        assert (read_account(one, here.id).name, read_account(other, there.id).name) == ("A", "B")


@pytest.mark.parametrize("kind", KINDS)
def test_databases_created_together_are_distinct_and_empty(tmp_path: Path, kind: str) -> None:
    with ExitStack() as all_at_once:
        urls = [all_at_once.enter_context(make_database_url(kind, tmp_path)) for _ in range(4)]
        assert len(set(urls)) == 4
        for url in urls:
            fill(url)
    with make_database_url(kind, tmp_path) as url:
        assert fill(url) == 1


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("accounts", "statement"), [(1, "SELECT"), (1, "ANALYZE"), (3000, "SELECT")]
)
def test_an_emptied_database_is_as_good_as_a_new_one(
    tmp_path: Path, accounts: int, statement: LiteralString
) -> None:
    with make_database_url("postgresql", tmp_path, migrated=False) as url:
        database = Database(url)
        migrate(database)
        database.dispose()
        new = look(url)
    with make_database_url("postgresql", tmp_path) as url, psycopg.connect(url) as connection:
        fill(url, accounts)
        connection.execute(statement)
        connection.commit()
    with make_database_url("postgresql", tmp_path) as url:
        assert look(url) == new


def look(url: str) -> list[object]:
    """See the accounts, how many the planner expects, and the number of the next one."""
    with psycopg.connect(url) as connection:
        return [
            connection.execute(query).fetchall()
            for query in (
                "SELECT * FROM users",
                "EXPLAIN SELECT FROM users",
                "SELECT nextval('users_id_seq')",
            )
        ]


def fill(url: str, accounts: int = 1) -> int:
    """Register somebody, or several people; how many there are then."""
    database = Database(url)
    try:
        database.transact(
            lambda session: session.add_all(
                User.draft(name="Ada", email=f"ada{number}@concord.example", password_hash=None)
                for number in range(accounts)
            ),
            write=True,
        )
        page = database.transact(lambda session: find_users(session, limit=100), write=False)
        return len(page.items)
    finally:
        database.dispose()
