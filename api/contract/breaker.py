"""A circuit breaker: while a server does not respond, requests do not wait for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CircuitOpenError(Exception):
    """The server failed a moment ago, so it was not asked."""


class Breaker:
    """Lets requests ask a server, until it fails; then one after each pause, until it responds."""

    def __init__(
        self, failures: tuple[type[Exception], ...], *, patience: float, pause: float
    ) -> None:
        """`patience` is the time limit of one attempt, which fails with `TimeoutError`.

        `failures` are the errors that mean that the server cannot be used. Times are in seconds.
        """
        self._failures: tuple[type[Exception], ...] = (*failures, TimeoutError)
        self._patience = patience
        self._pause = pause
        self._retry_at = 0.0

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Ask the server in the block.

        Raises:
            CircuitOpenError: The server failed less than one pause ago, or another request is
                asking it again.
        """
        now = time.monotonic()
        if now < self._retry_at:
            raise CircuitOpenError
        if self._retry_at:
            self._retry_at = now + self._pause
        try:
            async with asyncio.timeout(self._patience):
                yield
        except self._failures:
            self._retry_at = time.monotonic() + self._pause
            raise
        self._retry_at = 0.0
