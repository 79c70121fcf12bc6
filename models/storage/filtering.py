"""Filtering a sorted list by conditions that its sort index does not cover.

An index scan can use only one range. A query can walk the sort index and skip the rows that do not
match, which is slow if few rows match. Or it can read all matching rows and sort them, which is
slow if most rows match. PostgreSQL chooses by statistics of single columns, and SQLite has no
statistics. This module therefore counts the matching rows, up to a limit, and writes the query so
that the planner prefers the faster way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import SQLCoreOperations

from models.storage.reader import Reader

V = TypeVar("V")

FEW = 5000
"""Maximum number of rows to read and sort for one page.

With a million rows, sorting this many takes as long as walking the index until a page is full.
"""


class Selection(Protocol):
    """A condition with its own index, other than the sort index."""

    @property
    def found(self) -> ColumnElement[bool]:
        """The condition in a form that uses its own index to find all matching rows."""

    @property
    def checked(self) -> ColumnElement[bool]:
        """The condition in a form that checks each row separately."""

    def matches(self, branch: ColumnElement[bool]) -> Select[Any]:
        """Return a query of the matching rows in a branch of the list, along the own index."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A selection by a range of a column, which follows the leading columns of its index."""

    query: Select[Any]
    """The list, filtered only by the leading columns of the index."""
    column: InstrumentedAttribute[Any]
    conditions: Sequence[ColumnElement[bool]]

    @property
    def found(self) -> ColumnElement[bool]:
        """The bounds, in a form that can use the index."""
        return and_(*self.conditions)

    @property
    def checked(self) -> ColumnElement[bool]:
        """The bounds, hidden from their index so that the planner prefers the sort index."""
        return unindexed(self.found)

    def matches(self, branch: ColumnElement[bool]) -> Select[Any]:
        """Return a query of the rows within the bounds, ordered so that it uses the index."""
        rows = self.query.with_only_columns(self.column).where(branch, *self.conditions)
        return rows.order_by(self.column)


@dataclass(frozen=True, slots=True)
class ListFilter:
    """The filters of a list, besides the leading columns that all its indexes share.

    `branches` are mutually exclusive conditions, of which each listed row meets one. Each branch is
    one sorted range of an index, whereas `IN` would give several ranges that need sorting. `within`
    are conditions covered by the sort index, and `across` those covered by other indexes.
    """

    branches: Sequence[ColumnElement[bool]] = ()
    within: Sequence[ColumnElement[bool]] = ()
    across: Sequence[Selection] = ()

    def fewest(self, reader: Reader, branch: ColumnElement[bool]) -> Selection | None:
        """Return the selection with the fewest rows, or `None` if each has more than `FEW`."""
        if not self.across:
            return None
        rows = [each.matches(branch).limit(FEW + 1).subquery() for each in self.across]
        counts = [select(func.count()).select_from(each).scalar_subquery() for each in rows]
        found: Sequence[int] = reader.execute(select(*counts)).one()
        least = min(found)
        return self.across[found.index(least)] if least <= FEW else None


def unindexed(value: SQLCoreOperations[V]) -> ColumnElement[V]:
    """Wrap a value in a function call, so that no index applies to it."""
    return func.coalesce(value, value)
