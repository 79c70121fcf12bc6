"""Each test has its own service and database, even when tests run in parallel (M26)."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from models.identity.user import User
from models.identity.user_list import find_users
from models.storage.database import Database
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


def fill(url: str) -> int:
    """Register somebody; how many there are then."""
    database = Database(url)
    try:
        database.transact(
            lambda session: session.add(
                User.draft(name="Ada", email="ada@concord.example", password_hash=None)
            ),
            write=True,
        )
        page = database.transact(lambda session: find_users(session, limit=100), write=False)
        return len(page.items)
    finally:
        database.dispose()
