"""Connections to PostgreSQL with a client-side timeout and pipelined transactions."""

from contextlib import ExitStack, suppress
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection with a client-side timeout.

    The server enforces `statement_timeout`, which therefore does not help if the server is paused
    or the network drops packets.
    """

    patience: float | None = None
    """Maximum seconds for one exchange with the server."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - as in psycopg.
        super().__init__(*args)
        self._until_end = ExitStack()

    def begin_pipelined(self) -> None:
        """Begin a transaction whose statements are sent without waiting for their results."""
        self.autocommit = True  # psycopg's own BEGIN would wait for its result.
        self._pipelined = self._until_end.enter_context(self.pipeline())
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        # Requests that write look up rows by their keys, so one plan is good for all values.
        self.execute("SET LOCAL plan_cache_mode = auto")

    def settle(self) -> None:
        """Wait for the results of all statements that were sent in a pipelined transaction."""
        if self._is_active():
            self._pipelined.sync()

    def commit(self) -> None:
        """Commit; a pipelined transaction waits for all its statements together."""
        if self.pgconn.pipeline_status:
            self.execute("COMMIT")
            self._until_end.close()
        else:
            super().commit()

    def rollback(self) -> None:
        """Roll back, and ignore errors of statements that nobody waited for."""
        with suppress(psycopg.Error):
            self._until_end.close()
        super().rollback()

    def close(self) -> None:
        """Close the connection, and ignore the error of ending the pipeline of a lost one."""
        with suppress(psycopg.Error):
            self._until_end.close()
        super().close()

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for a round trip, and close the connection if the server does not respond."""
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError as error:
            # A response is still pending, so the connection cannot be used again.
            if self._is_active() and error.sqlstate is None:
                self.pgconn.finish()
            raise

    def _is_active(self) -> bool:
        return self.pgconn.transaction_status == TransactionStatus.ACTIVE
