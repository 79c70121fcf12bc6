import random
from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import Select, String, Uuid, event, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    ORMExecuteState,
    Session,
    mapped_column,
)
from sqlalchemy.schema import Index

from models.storage.database import Database
from models.storage.page import Listing, Page
from models.storage.reader import Reader


class Own(DeclarativeBase):
    """A registry of this test's own."""


class Thing(Own):
    """A row with a key of each type that lists are sorted by."""

    __tablename__ = "things"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    size: Mapped[int]
    name: Mapped[str] = mapped_column(String(10).with_variant(String(10, "C"), "postgresql"))

    __table_args__ = (Index("ix_things_size_id", "size", "id"),)


KEYS: dict[str, list[InstrumentedAttribute[object]]] = {
    "a number": [Thing.number],
    "an identifier": [Thing.id],
    "two columns": [Thing.size, Thing.id],
    "three columns": [Thing.name, Thing.size, Thing.number],
}


@pytest.fixture
def things(database: Database) -> Iterator[Database]:
    """A database with a table of things that are alike in most columns."""
    chance = random.Random(5)  # noqa: S311 - the same rows each time.
    rows = [
        Thing(
            id=UUID(int=chance.getrandbits(128)),
            number=number,
            size=chance.randrange(-2, 2),
            name=chance.choice(["", "B", "a", "é"]),
        )
        for number in chance.sample(range(1000), 23)
    ]

    def fill(session: Session) -> None:
        Own.metadata.create_all(session.connection())
        session.add_all(rows)

    database.transact(fill, write=True)
    yield database
    database.transact(lambda session: Own.metadata.drop_all(session.connection()), write=True)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("limit", [1, 4, 23, 100])
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_paging_by_any_keys_reads_every_row_once_in_order(
    things: Database,
    keys: list[InstrumentedAttribute[object]],
    limit: int,
    *,
    descending: bool,
) -> None:
    def read(reader: Reader, after: list[object] | None) -> Page[Thing]:
        listing = Listing(select(Thing), keys, descending=descending)
        return listing.page(reader, after=after, limit=limit)

    walked: list[tuple[object, ...]] = []
    after: list[object] | None = None
    while True:
        page = things.read(lambda reader, after=after: read(reader, after))  # type: ignore[misc]  # mypy infers no type for a lambda's default.
        walked += [tuple(getattr(row, key.key) for key in keys) for row in page.items]
        after = page.next_key
        if after is None:
            break
        assert all(isinstance(value, (int, str)) for value in after)

    assert len(walked) == len(set(walked)) == 23
    assert walked == sorted(walked, reverse=descending)


@pytest.mark.parametrize("descending", [False, True])
def test_a_middle_page_is_one_range_of_an_index(
    things: Database, kind: str, *, descending: bool
) -> None:
    def explain(session: Session) -> str:
        if kind == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))
            session.execute(text("SET LOCAL enable_sort = off"))
        queries: list[Select[Thing]] = []

        @event.listens_for(session, "do_orm_execute")
        def record(state: ORMExecuteState) -> None:
            if isinstance(state.statement, Select) and isinstance(state.parameters, dict):
                queries.append(state.statement.params(state.parameters))

        keys, after = KEYS["two columns"], [0, str(UUID(int=2**127))]
        listing = Listing(select(Thing), keys, descending=descending)
        listing.page(session, after=after, limit=3)
        (query,) = queries
        dialect = session.get_bind().dialect
        sql = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        prefix = "EXPLAIN QUERY PLAN " if kind == "sqlite" else "EXPLAIN "
        return "\n".join(str(row) for row in session.execute(text(prefix + sql)))

    plan = things.transact(explain, write=False)

    sign = "<" if descending else ">"
    condition = {
        "sqlite": f"INDEX ix_things_size_id ((size,id){sign}(?,?))",
        "postgresql": f"Index Cond: (ROW(size, id) {sign} ROW(",
    }[kind]
    assert condition in plan, plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan
