"""How a list is narrowed down by more than the index has that gives its order.

No index has two ranges. Either the order is walked and what does not fit is left out, which is slow
when hardly anything fits; or what fits is read and sorted, which is slow when nearly everything
does. PostgreSQL decides by statistics that know of no two columns together, SQLite without any. So
what fits is counted here, as far as it is few, and the query is written so that no other way of
reading it looks better than the one that is then known to be short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import SQLCoreOperations

V = TypeVar("V")

FEW = 5000
"""Rows that are read and sorted for one page.

Among a million rows, that is where sorting them all takes as long as walking until a page is full.
"""


class Selection(Protocol):
    """A condition that has an index of its own, other than the one that gives the order."""

    @property
    def found(self) -> ColumnElement[bool]:
        """The condition as its own index answers it, with all the rows that meet it."""

    @property
    def checked(self) -> ColumnElement[bool]:
        """The condition as it is asked of each row for itself."""

    def matches(self, branch: ColumnElement[bool]) -> Select[Any]:
        """Give the rows of its own index, from one end, that meet it in some branch of the list."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The selection by a range of a column, behind what an index with it begins with."""

    query: Select[Any]
    """The list, narrowed down by nothing but what the index begins with."""
    column: InstrumentedAttribute[Any]
    conditions: Sequence[ColumnElement[bool]]

    @property
    def found(self) -> ColumnElement[bool]:
        """The bounds, plainly."""
        return and_(*self.conditions)

    @property
    def checked(self) -> ColumnElement[bool]:
        """The bounds, so that the index with them does not look better than the one in order."""
        return hidden(self.found)

    def matches(self, branch: ColumnElement[bool]) -> Select[Any]:
        """Give what is within the bounds, by the index: the order keeps it from being scanned."""
        rows = self.query.with_only_columns(self.column).where(branch, *self.conditions)
        return rows.order_by(self.column)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a list is narrowed down by, besides what every index of it begins with.

    Of several `branches` each row meets one, or none and is left out. Every branch is a range of an
    index that has the order already; `IN` would be many, which have to be sorted. `within` are
    conditions that the index with the order has, `across` those that other indexes have.
    """

    branches: Sequence[ColumnElement[bool]] = ()
    within: Sequence[ColumnElement[bool]] = ()
    across: Sequence[Selection] = ()

    def fewest(
        self, connection: Session | Connection, branch: ColumnElement[bool]
    ) -> Selection | None:
        """Find the selection that leaves the fewest rows, or none if each leaves many."""
        if not self.across:
            return None
        rows = [each.matches(branch).limit(FEW + 1).subquery() for each in self.across]
        counts = [select(func.count()).select_from(each).scalar_subquery() for each in rows]
        found: Sequence[int] = connection.execute(select(*counts)).one()
        least = min(found)
        return self.across[found.index(least)] if least <= FEW else None


def hidden(value: SQLCoreOperations[V]) -> ColumnElement[V]:
    """Write a value so that no index has it, because no database looks into a function."""
    return func.coalesce(value, value)
