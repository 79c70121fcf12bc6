"""The base of all tables: named constraints and portable column types."""

from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, MetaData, delete
from sqlalchemy.dialects.sqlite import DATETIME
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from models.errors import VersionMismatch

BigId = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key. SQLite assigns ids only to a primary key column declared INTEGER."""


class Base(DeclarativeBase):
    """The registry of tables. Constraints have names so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


ERASED = {"erasure": "erased"}
"""The `info` of a foreign key to an account, for rows deleted when the account is erased."""


def kept(reason: str) -> dict[str, str]:
    """Return the `info` of a foreign key to an account, for rows kept when it is erased."""
    return {"erasure": reason}


def delete_rows_of(session: Session, user_id: int) -> None:
    """Delete the rows of an account whose foreign key to it is declared `ERASED`."""
    # The DELETE must also reach rows that are still pending in the session.
    session.flush()
    for table in reversed(Base.metadata.sorted_tables):
        for column in table.columns:
            if column.info == ERASED:
                session.execute(delete(table).where(column == user_id))


Versions: TypeAlias = Container[int] | None
"""The versions of a row from which a change may start; `None` means any."""


class Versioned:
    """Optimistic locking: `version` counts the changes to the row.

    Every update of an object compares the version, which prevents lost updates. Rows updated
    without being loaded as objects are locked first.
    """

    version: Mapped[int] = mapped_column()

    @declared_attr.directive
    def __mapper_args__(cls) -> Mapping[str, Any]:  # noqa: N805 - SQLAlchemy passes the class.
        return {"version_id_col": cls.version}

    def require_version(self, versions: Versions) -> None:
        """Check that the row is at one of the given versions.

        Raises:
            VersionMismatch: The row has a different version.
        """
        if versions is not None and self.version not in versions:
            raise VersionMismatch


_UTC = "+00:00"


class _SQLiteTime(DATETIME):
    """A time in SQLAlchemy's own format, converted without its template.

    This is worthwhile because a page of orders contains about eighty times.
    """

    def bind_processor(self, _dialect: Dialect) -> Callable[[datetime | None], str | None]:
        """Return the conversion of a UTC time to text."""
        return lambda value: (
            None if value is None else value.isoformat(" ", "microseconds").removesuffix(_UTC)
        )

    def result_processor(
        self, _dialect: Dialect, _coltype: object
    ) -> Callable[[str | None], datetime | None]:
        """Return the conversion of text to a UTC time."""
        return lambda value: None if value is None else datetime.fromisoformat(value + _UTC)


class UTCDateTime(TypeDecorator[datetime]):
    """A UTC datetime with microseconds, aware even on databases without time zones.

    PostgreSQL returns times in the session's time zone, which is UTC.
    """

    impl: TypeEngine[datetime] | type[TypeEngine[datetime]] = DateTime(timezone=True).with_variant(
        _SQLiteTime, "sqlite"
    )
    cache_ok: bool | None = True

    @property
    def python_type(self) -> type[datetime]:
        """The type of the values."""
        return datetime

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Convert an aware datetime to UTC.

        Raises:
            ValueError: The datetime is naive, so its instant is ambiguous.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)


def utcnow() -> datetime:
    """Return the current UTC time with microseconds."""
    return datetime.now(UTC)
