"""One page of a list that is walked by key instead of by offset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, bindparam, select, true, tuple_, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import SQLCoreOperations

from models.narrowing import Narrowing, hidden

T = TypeVar("T")

Keys: TypeAlias = Sequence[InstrumentedAttribute[object]]
"""The columns that a list is sorted by, none of them null; the last one alone is unique."""

_EVERYTHING = Narrowing()
_BOUNDS = ("bound", "next_bound")
"""What the keys are called where a page starts; no list has more."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items in the order of their keys, and the keys after which the next page starts.

    `next_key` is ready for JSON, and `None` on the last page. Rows that come and go between two
    pages neither repeat nor hide a row that stayed, because a page begins at a key and not at a
    count.
    """

    items: Sequence[T]
    next_key: list[object] | None

    @classmethod
    def read(
        cls,
        session: Session,
        query: Select[T],
        keys: Keys,
        *,
        after: Sequence[object] | None,
        limit: int,
        descending: bool = False,
        narrowed: Narrowing = _EVERYTHING,
    ) -> "Page[T]":
        """Read at most `limit` rows of a query in the order of some keys, those after `after`.

        `after` is the `next_key` of the page before, as it comes back from JSON.
        """
        query = page_query(
            session,
            query,
            keys,
            after=after,
            limit=limit,
            descending=descending,
            narrowed=narrowed,
        )
        rows = session.scalars(query).all()
        return cls(rows[:limit], next_key(rows, keys, limit))


def page_query(
    connection: Session | Connection,
    query: Select[T],
    keys: Keys,
    *,
    after: Sequence[object] | None,
    limit: int,
    descending: bool = False,
    narrowed: Narrowing = _EVERYTHING,
) -> Select[T]:
    """Write the query of one page, as in `Page.read`, for whoever reads its rows otherwise.

    It asks for one row more, which tells whether there is another page.
    """
    start = None if after is None else _typed(keys, after)
    walk = _Walk(keys, start, descending=descending)
    if narrowed.branches or narrowed.across:
        query = walk.merged(connection, query, narrowed, limit + 1)
    else:
        query = walk.along(query.where(*narrowed.within))
    return query.limit(limit + 1)


@cache
def plain_query(query: Select[T], keys: Keys, *, begun: bool, descending: bool) -> Select[T]:
    """Write, once for all, the query of a page of a list that is narrowed down no further.

    The values of each page are those of `plain_values`. To write a query anew takes as long as to
    ask it. What is written is kept for good, so the query has to be a constant of its module.
    """
    bounds = [bindparam(name, type_=key.type) for name, key in zip(_BOUNDS, keys, strict=False)]
    start = bounds if begun else None
    return _Walk(keys, start, descending=descending).along(query).limit(bindparam("rows"))


def plain_values(keys: Keys, after: Sequence[object] | None, limit: int) -> dict[str, object]:
    """Give what a query of `plain_query` asks for, one row more included."""
    start = () if after is None else zip(_BOUNDS, _typed(keys, after), strict=False)
    return {"rows": limit + 1, **dict(start)}


def next_key(rows: Sequence[object], keys: Keys, limit: int) -> list[object] | None:
    """Give the keys after which the next page starts, or `None` if these rows are the last."""
    if len(rows) <= limit:
        return None
    values = (getattr(rows[limit - 1], key.key) for key in keys)
    return [str(value) if isinstance(value, UUID) else value for value in values]


@dataclass(frozen=True, slots=True)
class _Walk:
    """The order of a list, and where in it a page starts."""

    keys: Keys
    start: Sequence[Any] | None
    descending: bool

    def along(self, query: Select[T]) -> Select[T]:
        """Read the rows of a query by the index that has them in this order."""
        return query.where(*self._start()).order_by(*self._order(self.keys))

    def sorting(self, query: Select[T]) -> Select[T]:
        """Read the rows of a query by any other index, all of them, and sort them."""
        order = self._order([hidden(key) for key in self.keys])
        return query.where(*map(hidden, self._start())).order_by(*order)

    def merged(
        self, connection: Session | Connection, query: Select[T], narrowed: Narrowing, limit: int
    ) -> Select[T]:
        """Read the first rows of each branch, each in its own way, and merge them.

        Of these only the identifiers are read, which the indexes have; the rows themselves are
        looked up for the page. Nothing else is asked of them that an index could begin with.
        """
        unique = self.keys[-1]
        only_ids = query.with_only_columns(unique)
        firsts = [
            self._branch(connection, only_ids, narrowed, branch).limit(limit).subquery()
            for branch in narrowed.branches or (true(),)
        ]
        ids = union_all(*(select(each) for each in firsts)).subquery()
        rows: Select[T] = select(*(each["expr"] for each in query.column_descriptions))
        rows = rows.join(ids, unique == ids.c[0])
        return rows.order_by(*self._order([hidden(key) for key in self.keys]))

    def _branch(
        self,
        connection: Session | Connection,
        query: Select[T],
        narrowed: Narrowing,
        branch: ColumnElement[bool],
    ) -> Select[T]:
        first = narrowed.fewest(connection, branch)
        query = query.where(
            branch, *(each.found if each is first else each.checked for each in narrowed.across)
        )
        if first is None:
            return self.along(query.where(*narrowed.within))
        return self.sorting(query.where(*map(hidden, narrowed.within)))

    def _start(self) -> Iterator[ColumnElement[bool]]:
        """Compare row by row, not column by column: that is one range of an index with the keys."""
        if self.start is None:
            return
        several = len(self.keys) > 1
        row: ColumnElement[Any] = tuple_(*self.keys) if several else self.keys[0].expression
        types = [key.type for key in self.keys]
        bound = tuple_(*self.start, types=types) if several else self.start[0]
        yield row < bound if self.descending else row > bound

    def _order(self, keys: Sequence[SQLCoreOperations[object]]) -> list[ColumnElement[object]]:
        return [key.desc() if self.descending else key.asc() for key in keys]


def _typed(keys: Keys, after: Sequence[object]) -> list[object]:
    """Read keys as they come back from JSON."""
    return [key.type.python_type(value) for key, value in zip(keys, after, strict=True)]
