"""What all tables share: named constraints, and columns that mean the same on every database."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from models.errors import VersionMismatch

BigId = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key, also in SQLite, where only a column declared INTEGER can be the key of a row."""


class Base(DeclarativeBase):
    """The registry of tables. Constraints are named, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Versioned:
    """What rows have that several people change: `version` counts the changes of the row.

    Every UPDATE of an object compares it, so that none is lost; what is updated without being read
    as an object is locked first.
    """

    version: Mapped[int] = mapped_column()

    @declared_attr.directive
    def __mapper_args__(cls) -> Mapping[str, Any]:  # noqa: N805 - SQLAlchemy passes the class.
        return {"version_id_col": cls.version}

    def require_version(self, versions: frozenset[int] | None) -> None:
        """Insist that the row is at one of the versions that the caller knows; `None` is any.

        Raises:
            VersionMismatch: somebody else has changed it meanwhile.
        """
        if versions is not None and self.version not in versions:
            raise VersionMismatch


class UTCDateTime(TypeDecorator[datetime]):
    """An instant in UTC with microseconds, read back aware from databases that keep no zone."""

    impl: TypeEngine[datetime] | type[TypeEngine[datetime]] = DateTime(timezone=True)
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Convert an aware time to UTC. A naive one is a bug: nobody knows which instant it is."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give the instant back with the zone `datetime.UTC`."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utcnow() -> datetime:
    """Give the present instant, in UTC, to the microsecond."""
    return datetime.now(UTC)
