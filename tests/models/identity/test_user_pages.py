import random
from typing import Any

import pytest
from sqlalchemy import Select, event, text
from sqlalchemy.orm import ORMExecuteState, Session

from models.identity.user import Role, User
from models.identity.user_list import find_users
from models.storage.database import Database
from models.storage.page import Page
from tests.factories import make_user
from tests.models.actions import erase_user
from tests.models.plans import explain
from tests.models.reading import read_page


def ids(page: Page[User]) -> list[int]:
    return [user.id for user in page.items]


def test_pages_are_sorted_by_id_and_the_last_has_no_next(database: Database) -> None:
    users = [make_user(database).id for _ in range(5)]

    first = read_page(database, limit=2)
    second = read_page(database, after=first.next_key, limit=2)
    third = read_page(database, after=second.next_key, limit=2)

    assert ids(first) + ids(second) + ids(third) == users
    assert (first.next_key, second.next_key, third.next_key) == ([users[1]], [users[3]], None)


def test_a_full_last_page_has_no_next(database: Database) -> None:
    make_user(database)
    make_user(database)

    assert read_page(database, limit=2).next_key is None


def test_a_list_may_be_empty(database: Database) -> None:
    assert read_page(database) == Page([], None)


def test_filters_can_be_combined(database: Database) -> None:
    everybody = {
        (role, active): make_user(database, role=role, active=active).id
        for role in ("user", "admin")
        for active in (True, False)
    }

    for wanted_role in ("user", "admin", None):
        for wanted_active in (True, False, None):
            assert ids(read_page(database, role=wanted_role, active=wanted_active)) == [
                user_id
                for (role, active), user_id in everybody.items()
                if wanted_role in (None, role) and wanted_active in (None, active)
            ]


def test_paging_neither_repeats_nor_skips_unchanged_rows(database: Database) -> None:
    chance = random.Random(7)  # noqa: S311 - the same walk every time
    present = [make_user(database).id for _ in range(30)]
    stayed, walked, after = set(present), [], None

    while True:
        page = read_page(database, after=after, limit=4)
        walked += ids(page)
        if page.next_key is None:
            break
        after = page.next_key
        make_user(database)
        leaver = chance.choice(sorted(stayed))
        stayed.remove(leaver)
        erase_user(database, leaver)

    assert len(walked) == len(set(walked))
    assert walked == sorted(walked)
    assert stayed <= set(walked)


@pytest.mark.parametrize("active", [True, False, None])
@pytest.mark.parametrize("role", ["user", "admin", None])
def test_every_list_is_served_by_an_index_in_one_query(
    database: Database, kind: str, role: Role | None, *, active: bool | None
) -> None:
    def fill(session: Session) -> None:
        # Of one account alone every index is as good as another.
        session.add_all(
            User.draft(name="Ada", email=f"ada{number}@example.com", password_hash=None)
            for number in range(1000)
        )

    database.transact(fill, write=True)

    def plan_of(session: Session) -> str:
        if kind == "postgresql":
            session.execute(text("ANALYZE users"))
            # A small table is best read as a whole. What can be asked is whether it must be.
            session.execute(text("SET LOCAL enable_seqscan = off"))
            session.execute(text("SET LOCAL enable_sort = off"))
        queries: list[Select[User]] = []

        @event.listens_for(session, "do_orm_execute")
        def record(state: ORMExecuteState) -> None:
            if isinstance(state.statement, Select) and isinstance(state.parameters, dict):
                queries.append(state.statement.params(state.parameters))

        find_users(session, active=active, role=role, after=[1], limit=25)
        (query,) = queries
        dialect = session.get_bind().dialect
        sql = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        prefix = "EXPLAIN QUERY PLAN " if kind == "sqlite" else "EXPLAIN "
        return "\n".join(str(row) for row in session.execute(text(prefix + sql)))

    plan = database.transact(plan_of, write=True)

    expected = {
        (False, False): ("pk_users", "INTEGER PRIMARY KEY"),
        (True, False): ("ix_users_role_id",),
        (False, True): ("ix_users_active_id",),
        (True, True): ("ix_users_role_id", "ix_users_active_id"),
    }[role is not None, active is not None]
    if role != "admin" and active is not False:
        # What nearly every account has narrows nothing down, if the server knows that by now.
        expected = (*expected, "pk_users")
    assert any(index in plan for index in expected), plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.mission("M30")
def test_an_address_is_looked_up_in_its_unique_index(database: Database, kind: str) -> None:
    def fill(session: Session) -> None:
        session.add_all(
            User.draft(name="Ada", email=f"ada{number}@example.com", password_hash=None)
            for number in range(1000)
        )
        session.flush()
        session.execute(text("ANALYZE"))

    database.transact(fill, write=True)
    # Of one row, a sort costs nothing.
    for plan in explain(
        database,
        kind,
        lambda session: find_users(session, email="ADA7@example.com", after=[1], limit=25),
        may_sort=True,
    ):
        assert plan.indexes <= {"uq_users_email_key", "sqlite_autoindex_users_1"}, plan.text
        assert plan.indexes, plan.text


@pytest.mark.mission("M30")
@pytest.mark.parametrize("filters", [{}, {"active": True, "role": "user"}])
def test_words_are_looked_up_in_their_index(
    database: Database, kind: str, filters: dict[str, Any]
) -> None:
    def fill(session: Session) -> None:
        for number in range(100):
            email = f"ada{number}@example.com"
            User.register(session, name=f"Ada {number}", email=email, password_hash=None)
        session.execute(text("ANALYZE"))

    database.transact(fill, write=True)
    plans = explain(
        database,
        kind,
        lambda session: find_users(session, words="ada exam", **filters, after=[1], limit=25),
        may_sort=True,
    )
    assert not any(plan.whole_tables for plan in plans), plans
    used = frozenset.union(*(plan.indexes for plan in plans))
    assert "ix_user_terms_term_user_id" in used, plans
