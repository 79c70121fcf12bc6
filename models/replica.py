"""A streaming replica of PostgreSQL, which serves reads that may see a slightly older state."""

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from threading import Semaphore
from typing import ClassVar, TypeVar, cast
from uuid import UUID, uuid4

from sqlalchemy import Connection, Double, Uuid, delete, func, make_url, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column
from typing_extensions import override

from models.errors import DatabaseUnavailable
from models.storage.backend import Limits, WatchedPool
from models.storage.base import Base, UTCDateTime
from models.storage.database import Database
from models.storage.reader import ConnectionReader, Reader
from models.storage.schema_version import SchemaError

T = TypeVar("T")

_KEPT = timedelta(hours=1)
_RECENT = 1.0
_POLL = 0.05
_SHOWN = "concord_heartbeat"
_OUTDATED = "the standby lacks the changes of the last second"


class Heartbeat(Base):
    """The last heartbeat of a process: the time of its monotonic clock, in seconds."""

    __tablename__ = "heartbeats"

    process: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    beat: Mapped[float] = mapped_column(Double)
    written_at: Mapped[datetime] = mapped_column(UTCDateTime)

    @classmethod
    def write(cls, session: Session, process: UUID, beat: float) -> None:
        """Write a heartbeat, and delete those of processes that ended an hour ago."""
        # A process whose own clock is ahead would delete the heartbeats of all others.
        session.execute(delete(cls).where(cls.written_at < func.now() - _KEPT))
        values = {"beat": beat, "written_at": func.now()}
        written = insert(cls).values(process=process, **values)
        session.execute(written.on_conflict_do_update(index_elements=[cls.process], set_=values))


class ReplicaOutdated(Exception):
    """The server is not a standby, or lacks recent changes; `str` says which."""


class ReplicatedDatabase(Database):
    """A database on PostgreSQL with a replica for reads that may see a slightly older state.

    Each process writes the time of its clock to the primary. A replica that shows the time `t` has
    every commit that was confirmed or visible on the primary before `t`, because it repeats commits
    in their order. The state that one connection sees only moves forward, so a connection that has
    shown a recent time may serve reads. Lag, a lost primary, a promotion and a restart from an
    older state need no detection of their own.

    Args:
        url: The primary, as in `Database`.
        replica_url: The replica, or a load balancer for TCP in front of several.
        pool_size: Maximum number of connections to the primary.
        replica_reads: Maximum number of concurrent reads of the replica. While it hangs, so many
            threads wait for it; further reads ask the primary at once.
        is_pooled: Whether the URL of the primary leads to PgBouncer.
    """

    PAUSE: ClassVar = 0.25
    """Seconds between two heartbeats."""

    def __init__(
        self,
        url: str,
        replica_url: str,
        *,
        pool_size: int = 16,
        replica_reads: int = 1,
        is_pooled: bool = False,
    ) -> None:
        super().__init__(url, pool_size=pool_size, is_pooled=is_pooled)
        # If the replica hangs, a read waits up to four seconds and then asks the primary. Reads
        # that begin more than a second later do not wait. Heartbeats take one more connection.
        limits = Limits(replica_reads + 1, 1.0, 2.0, 1.0, 1.0)
        self._replica = self._backend.connect(make_url(replica_url), limits)
        self._places = Semaphore(replica_reads)
        self._process = uuid4()
        self._usable_until = -math.inf
        self._newest = math.inf
        self.on_read: Callable[[str], None] = lambda _: None
        """Called with the server that a read with a `staleness` asks: `replica` or `primary`."""

    def beat(self) -> None:
        """Write a heartbeat, and let the replica serve reads if it shows a recent one.

        Raises:
            DatabaseUnavailable: The primary or the replica failed.
            ReplicaOutdated: The replica shows no recent heartbeat.
        """
        began = time.monotonic()
        self._newest = min(self._newest, began)
        try:
            self.transact(partial(Heartbeat.write, process=self._process, beat=began))
            with self._replica.single.connect() as connection, connection.begin():
                while not self._shows(connection, began - _RECENT):
                    if time.monotonic() > began + _RECENT:
                        raise ReplicaOutdated(_OUTDATED)
                    time.sleep(_POLL)
        except SQLAlchemyError as error:
            raise DatabaseUnavailable from error
        self._usable_until = time.monotonic() + _RECENT

    @override
    def read(
        self, work: Callable[[Reader], T], *, single: bool = False, staleness: float = 0.0
    ) -> T:
        if not staleness:
            return super().read(work, single=single)
        if time.monotonic() < self._usable_until and self._places.acquire(blocking=False):
            try:
                return self._read_replica(work, staleness, single=single)
            except (SQLAlchemyError, SchemaError, ReplicaOutdated):
                # Further reads ask the primary until the next heartbeat is found.
                self._usable_until = -math.inf
            finally:
                self._places.release()
        self.on_read("primary")
        return super().read(work, single=single)

    def age(self) -> float:
        """Return the age in seconds of the newest state that the replica has shown.

        It is 0 in a process that has not called `beat`.
        """
        return max(0.0, time.monotonic() - self._newest)

    @override
    def watch_statements(self, begin: Callable[[str], Callable[[], None]]) -> None:
        super().watch_statements(begin)
        self._replica.watch(begin)

    @property
    @override
    def pools(self) -> dict[str, WatchedPool]:
        return super().pools | {"replica": cast("WatchedPool", self._replica.writing.pool)}

    @override
    def dispose(self) -> None:
        super().dispose()
        self._replica.writing.dispose()

    def _read_replica(self, work: Callable[[Reader], T], staleness: float, *, single: bool) -> T:
        engine = self._replica.single if single else self._replica.reading
        with engine.connect() as connection, connection.begin():
            oldest = time.monotonic() - staleness
            is_recent = connection.info.get(_SHOWN, -math.inf) >= oldest
            if not is_recent and not self._shows(connection, oldest):
                raise ReplicaOutdated(_OUTDATED)
            self.on_read("replica")
            with ConnectionReader(connection, single=single) as reader:
                return work(reader)

    def _shows(self, connection: Connection, oldest: float) -> bool:
        """Note the heartbeat on the replica; return whether it is at least as recent as `oldest`.

        Raises:
            ReplicaOutdated: The server is not a standby.
        """
        beat = select(Heartbeat.beat).where(Heartbeat.process == self._process)
        query = select(func.pg_is_in_recovery(), func.coalesce(beat.scalar_subquery(), -math.inf))
        is_standby, shown = connection.execute(query).one()
        if not is_standby:
            raise ReplicaOutdated("the server is not a standby")
        connection.info[_SHOWN] = shown
        self._newest = max(self._newest, shown)
        return bool(shown >= oldest)
