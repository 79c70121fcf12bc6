"""Reading from the database: rows without a session, objects with one."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar, TypeVarTuple

from sqlalchemy import Connection, Result, ScalarResult
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import TypedReturnsRows

from models.storage.constants import read_rows

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Parameters: TypeAlias = Mapping[str, Any] | None


class Reader(Protocol):
    """Runs queries. A `Session` is also a reader, so writing code can call functions that read."""

    def execute(
        self, query: TypedReturnsRows[*Ts], parameters: Parameters = None, /
    ) -> Result[*Ts]:
        """Return the rows of a query for columns."""

    def scalar(self, query: TypedReturnsRows[T], parameters: Parameters = None, /) -> T | None:
        """Return the first object or value of a query; `None` if there is none."""

    def scalars(
        self, query: TypedReturnsRows[T], parameters: Parameters = None, /
    ) -> ScalarResult[T]:
        """Return the objects or values of a query."""


class ConnectionReader:
    """The reader of `Database.read`.

    Reading rows does not cost a session, which is created only for the first object.
    """

    def __init__(self, connection: Connection, *, single: bool = False) -> None:
        self._connection = connection
        self._session: Session | None = None
        self._single = single
        self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            self._session.close()

    def execute(
        self, query: TypedReturnsRows[*Ts], parameters: Parameters = None, /
    ) -> Result[*Ts]:
        """Return the rows of a query for columns."""
        self._count()
        return read_rows(self._connection, query, parameters)

    def scalar(self, query: TypedReturnsRows[T], parameters: Parameters = None, /) -> T | None:
        """Return the first object or value of a query; `None` if there is none."""
        return self.scalars(query, parameters).first()

    def scalars(
        self, query: TypedReturnsRows[T], parameters: Parameters = None, /
    ) -> ScalarResult[T]:
        """Return the objects or values of a query."""
        self._count()
        if self._session is None:
            self._session = Session(self._connection, autoflush=False, expire_on_commit=False)
        return self._session.scalars(query, parameters)

    def _count(self) -> None:
        """Count a statement.

        Raises:
            RuntimeError: A single statement was promised, and this is a second one. It might see a
                different state from the first.
        """
        if self._used and self._single:
            raise RuntimeError("only one statement can be read without a snapshot")
        self._used = True
