"""What `models.database` needs to know about the database behind it, and what it tells it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NamedTuple, Protocol

import orjson
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError

JSON_CODEC: Final[Mapping[str, Callable[[Any], Any]]] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}
"""How columns of JSON are written and read; a list has two in each of its rows."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long. Times are seconds; `None` means as long as it takes.

    Together they bound every answer: a request waits for a connection of the pool, connects,
    waits for a lock and runs statements, and each of these ends.
    """

    pool_size: int
    pool_timeout: float
    connect_timeout: float
    lock_timeout: float
    statement_timeout: float | None


class Engines(NamedTuple):
    """Where connections come from: for single statements, and for transactions of three kinds.

    These mean to read, to write in the end, and to write.
    """

    single: Engine
    reading: Engine
    late: Engine
    writing: Engine


class Fault(Enum):
    """What an error of the driver asks for."""

    CONFLICT = auto()
    """Another transaction was in the way. The same work may succeed when it starts again."""

    UNAVAILABLE = auto()
    """The database is away, full or too busy. Trying again at once would make it worse."""


class Backend(Protocol):
    """A module that knows one database: `models.sqlite` or `models.postgresql`."""

    def connect(self, url: URL, limits: Limits, /) -> Engines:
        """Prepare a pool. Nothing is connected before the first use."""

    def diagnose(self, error: DBAPIError, /, *, write: bool) -> Fault | None:
        """Say what an error in a writing or reading transaction asks for; `None` if it is a bug."""

    def try_lock(self, connection: Connection, number: int, /) -> bool:
        """Take a lock that lasts until the transaction ends, or say that another one has it."""

    def together(self, connection: Connection, /) -> AbstractContextManager[None]:
        """Let the block send statements that return nothing without waiting for each answer.

        What one of them does wrong is said at the end of the block.
        """

    def exclusive(
        self, connection: Connection, /, *, patience: float
    ) -> AbstractContextManager[None]:
        """Hold off other migrations while the block runs, waiting at most `patience` seconds.

        Raises:
            DatabaseUnavailable: another process held the lock all that time.
        """
