"""One page of a list that is walked by key instead of by offset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items in the order of their key, and the key after which the next page starts.

    `next_key` is `None` on the last page. Rows that come and go between two pages neither repeat
    nor hide a row that stayed, because a page begins at a key and not at a count.
    """

    items: Sequence[T]
    next_key: int | None

    @classmethod
    def read(
        cls,
        session: Session,
        query: Select[T],
        key: InstrumentedAttribute[int],
        *,
        after: int | None,
        limit: int,
    ) -> "Page[T]":
        """Read at most `limit` rows of a query in the order of a unique key, those after `after`.

        One row more is asked for, which tells whether there is another page.
        """
        if after is not None:
            query = query.where(key > after)
        rows = session.scalars(query.order_by(key).limit(limit + 1)).all()
        items = rows[:limit]
        return cls(items, getattr(items[-1], key.key) if len(rows) > limit else None)
