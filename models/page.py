"""One page of a list that is walked by key instead of by offset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, true, tuple_, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.elements import SQLCoreOperations

from models.narrowing import Narrowing, hidden

T = TypeVar("T")

Keys: TypeAlias = Sequence[InstrumentedAttribute[object]]
"""The columns that a list is sorted by, none of them null; the last one alone is unique."""

_EVERYTHING = Narrowing()


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
        options: Sequence[ORMOption] = (),
    ) -> "Page[T]":
        """Read at most `limit` rows of a query in the order of some keys, those after `after`.

        `after` is the `next_key` of the page before, as it comes back from JSON. One row more is
        asked for, which tells whether there is another page.
        """
        walk = _Walk(keys, after, descending=descending)
        if narrowed.branches or narrowed.across:
            query = walk.merged(session, query, narrowed, limit + 1)
        else:
            query = walk.along(query.where(*narrowed.within))
        rows = session.scalars(query.options(*options).limit(limit + 1)).all()
        items = rows[:limit]
        return cls(items, _position(items[-1], keys) if len(rows) > limit else None)


@dataclass(frozen=True, slots=True)
class _Walk:
    """The order of a list, and where in it a page starts."""

    keys: Keys
    after: Sequence[object] | None
    descending: bool

    def along(self, query: Select[T]) -> Select[T]:
        """Read the rows of a query by the index that has them in this order."""
        return query.where(*self._start()).order_by(*self._order(self.keys))

    def sorting(self, query: Select[T]) -> Select[T]:
        """Read the rows of a query by any other index, all of them, and sort them."""
        order = self._order([hidden(key) for key in self.keys])
        return query.where(*map(hidden, self._start())).order_by(*order)

    def merged(
        self, session: Session, query: Select[T], narrowed: Narrowing, limit: int
    ) -> Select[T]:
        """Read the first rows of each branch, each in its own way, and merge them.

        Of these only the identifiers are read, which the indexes have; the rows themselves are
        looked up for the page. Nothing else is asked of them that an index could begin with.
        """
        unique = self.keys[-1]
        only_ids = query.with_only_columns(unique)
        firsts = [
            self._branch(session, only_ids, narrowed, branch).limit(limit).subquery()
            for branch in narrowed.branches or (true(),)
        ]
        ids = union_all(*(select(each) for each in firsts)).subquery()
        rows: Select[T] = select(unique.class_).join(ids, unique == ids.c[0])
        return rows.order_by(*self._order([hidden(key) for key in self.keys]))

    def _branch(
        self, session: Session, query: Select[T], narrowed: Narrowing, branch: ColumnElement[bool]
    ) -> Select[T]:
        first = narrowed.fewest(session, branch)
        query = query.where(
            branch, *(each.found if each is first else each.checked for each in narrowed.across)
        )
        if first is None:
            return self.along(query.where(*narrowed.within))
        return self.sorting(query.where(*map(hidden, narrowed.within)))

    def _start(self) -> Iterator[ColumnElement[bool]]:
        """Compare row by row, not column by column: that is one range of an index with the keys."""
        if self.after is None:
            return
        pairs = zip(self.keys, self.after, strict=True)
        values = [key.type.python_type(value) for key, value in pairs]
        several = len(values) > 1
        row: ColumnElement[Any] = tuple_(*self.keys) if several else self.keys[0].expression
        bound = values if several else values[0]
        yield row < bound if self.descending else row > bound

    def _order(self, keys: Sequence[SQLCoreOperations[object]]) -> list[ColumnElement[object]]:
        return [key.desc() if self.descending else key.asc() for key in keys]


def _position(row: object, keys: Keys) -> list[object]:
    values = (getattr(row, key.key) for key in keys)
    return [str(value) if isinstance(value, UUID) else value for value in values]
