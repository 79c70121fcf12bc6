"""Tests have a service and a database to themselves, also when others run beside them (M26)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests.api.accounts import make_account, read_account
from tests.databases import KINDS, SERVER, make_database_url
from tests.service import running

pytestmark = pytest.mark.mission("M26")


@pytest.mark.parametrize("kind", KINDS)
def test_two_services_of_the_tests_share_nothing(tmp_path: Path, kind: str) -> None:
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


@pytest.mark.postgresql
def test_databases_that_are_made_at_once_are_different_and_are_gone_afterwards(
    tmp_path: Path,
) -> None:
    def make(_number: int) -> str:
        with make_database_url("postgresql", tmp_path) as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)
            return str(make_url(url).database)

    # The first one makes the template, which every process has for itself.
    make(0)
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(make, range(4)))
    assert len(set(names)) == 4
    with psycopg.connect(SERVER) as connection:
        query = "SELECT count(*) FROM pg_database WHERE datname = ANY(%s)"
        assert connection.execute(query, (names,)).fetchone() == (0,)
