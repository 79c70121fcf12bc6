"""Keyset pagination: pages that start at a key instead of an offset."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    bindparam,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import SQLCoreOperations

from models.storage.constants import constant
from models.storage.filtering import ListFilter, unindexed
from models.storage.reader import Reader

T = TypeVar("T")
V = TypeVar("V")
Ts = TypeVarTuple("Ts")
Us = TypeVarTuple("Us")

Keys: TypeAlias = Sequence[InstrumentedAttribute[object]]
"""The non-null columns that a list is sorted by. The last one is unique by itself."""

_EVERYTHING = ListFilter()
_BOUNDS = ("bound", "next_bound", "last_bound")
"""The parameter names of the keys at which a page starts. No list has more than three keys."""
_ROWS = bindparam("rows", type_=Integer)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of items in the order of their keys, and the keys after which the next page starts.

    `next_key` is JSON-serializable, and `None` on the last page. Because a page starts at a key and
    not at an offset, rows inserted or deleted between two pages never repeat or hide other rows.
    """

    items: Sequence[T]
    next_key: list[object] | None


class Listing(Generic[*Ts]):
    """The rows of a query in the order of `keys`, which are read in pages.

    A page reads one more row than it has, which shows whether there is another page. Building a
    statement takes as long as executing it, so a listing keeps the statements of its pages. A query
    with parameters of its own can therefore be listed by a constant.
    """

    def __init__(
        self,
        query: Select[*Ts],
        keys: Keys,
        *,
        descending: bool = False,
        narrowed: ListFilter = _EVERYTHING,
    ) -> None:
        self._query = query
        self._keys = keys
        self._descending = descending
        self._narrowed = narrowed
        self._built: dict[bool, Select[*Ts]] = {}

    def page(
        self: "Listing[T]", reader: Reader, *, after: Sequence[object] | None, limit: int
    ) -> Page[T]:
        """Return up to `limit` objects, starting after `after`.

        `after` is the `next_key` of the previous page, as decoded from JSON.
        """
        statement = self._statement(reader, begun=after is not None)
        found = reader.scalars(statement, self._values(after, limit)).all()
        return Page(found[:limit], self._next_key(found, limit))

    def view(
        self,
        reader: Reader,
        make: Callable[[Reader, Sequence[Row[*Ts]]], Sequence[V]],
        *,
        after: Sequence[object] | None,
        limit: int,
        values: Mapping[str, object],
    ) -> Page[V]:
        """Return a page of the results of `make` for its rows, or for the first of them.

        `values` are the parameters of the query.
        """
        statement = self._statement(reader, begun=after is not None)
        found = reader.execute(statement, {**values, **self._values(after, limit)}).all()
        items = make(reader, found[:limit])
        return Page(items, self._next_key(found, len(items)))

    def _statement(self, reader: Reader, *, begun: bool) -> Select[*Ts]:
        if self._narrowed.branches or self._narrowed.across:
            return self._merged(reader, begun=begun)
        if begun not in self._built:
            query = self._query.where(*self._narrowed.within)
            self._built[begun] = constant(self._along(query, begun=begun).limit(_ROWS))
        return self._built[begun]

    def _values(self, after: Sequence[object] | None, limit: int) -> dict[str, object]:
        start = () if after is None else zip(_BOUNDS, _typed(self._keys, after), strict=False)
        return {_ROWS.key: limit + 1, **dict(start)}

    def _next_key(self, rows: Sequence[object], shown: int) -> list[object] | None:
        if len(rows) <= shown:
            return None
        values = (getattr(rows[shown - 1], key.key) for key in self._keys)
        return [str(value) if isinstance(value, (UUID, datetime)) else value for value in values]

    def _along(self, query: Select[*Us], *, begun: bool) -> Select[*Us]:
        """Read a query's rows along the index that matches the sort order."""
        return query.where(*self._start(begun=begun)).order_by(*self._order(self._keys))

    def _sorting(self, query: Select[*Us], *, begun: bool) -> Select[*Us]:
        """Read all of a query's rows by any other index, and sort them."""
        order = self._order([unindexed(key) for key in self._keys])
        return query.where(*map(unindexed, self._start(begun=begun))).order_by(*order)

    def _merged(self, reader: Reader, *, begun: bool) -> Select[*Ts]:
        """Read the first rows of each branch, each with its own strategy, and merge them.

        The branches read only identifiers, which the indexes contain. The full rows are looked up
        for the page only. The outer query has no other condition that an index could start with.
        """
        unique = self._keys[-1]
        only_ids = self._query.with_only_columns(unique)
        firsts = [
            self._branch(reader, only_ids, branch, begun=begun).limit(_ROWS).subquery()
            for branch in self._narrowed.branches or (true(),)
        ]
        ids = union_all(*(select(each) for each in firsts)).subquery()
        rows: Select[*Ts] = select(*(each["expr"] for each in self._query.column_descriptions))
        rows = rows.join(ids, unique == ids.c[0])
        return rows.order_by(*self._order([unindexed(key) for key in self._keys])).limit(_ROWS)

    def _branch(
        self, reader: Reader, query: Select[T], branch: ColumnElement[bool], *, begun: bool
    ) -> Select[T]:
        narrowed = self._narrowed
        first = narrowed.fewest(reader, branch)
        query = query.where(
            branch, *(each.found if each is first else each.checked for each in narrowed.across)
        )
        if first is None:
            return self._along(query.where(*narrowed.within), begun=begun)
        return self._sorting(query.where(*map(unindexed, narrowed.within)), begun=begun)

    def _start(self, *, begun: bool) -> Iterator[ColumnElement[bool]]:
        """Compare the keys as one row value, which is a single range of an index on the keys."""
        if not begun:
            return
        types = [key.type for key in self._keys]
        start = [bindparam(name, type_=each) for name, each in zip(_BOUNDS, types, strict=False)]
        several = len(self._keys) > 1
        row: ColumnElement[Any] = tuple_(*self._keys) if several else self._keys[0].expression
        bound = tuple_(*start, types=types) if several else start[0]
        yield row < bound if self._descending else row > bound

    def _order(self, keys: Sequence[SQLCoreOperations[object]]) -> list[ColumnElement[object]]:
        return [key.desc() if self._descending else key.asc() for key in keys]


def _typed(keys: Keys, after: Sequence[object]) -> list[object]:
    """Convert keys decoded from JSON to the types of their columns."""
    types = (key.type.python_type for key in keys)
    return [
        datetime.fromisoformat(str(value)) if kind is datetime else kind(value)
        for kind, value in zip(types, after, strict=True)
    ]
