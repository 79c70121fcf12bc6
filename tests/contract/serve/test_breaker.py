"""The circuit breaker: a server that failed is asked by one request in each pause (M22)."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from api.contract.breaker import Breaker, CircuitOpenError

pytestmark = pytest.mark.mission("M22")

PAUSE = 2.0


class Clock:
    """A monotonic clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._read = time.monotonic

    def monotonic(self) -> float:
        return self._read() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    yield clock
    monkeypatch.undo()


@pytest.fixture
def breaker() -> Breaker:
    return Breaker((OSError,), patience=0.05, pause=PAUSE)


async def ask(breaker: Breaker, failure: Exception | None = None, seconds: float = 0) -> str:
    """Ask a server that fails or responds after some seconds; return what happened."""
    try:
        async with breaker.attempt():
            await asyncio.sleep(seconds)
            if failure is not None:
                raise failure
    except CircuitOpenError:
        return "not asked"
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "answered"


def outcomes(breaker: Breaker, *failures: Exception | None) -> list[str]:
    """Ask several times, one after the other."""

    async def run() -> list[str]:
        return [await ask(breaker, failure) for failure in failures]

    return asyncio.run(run())


def test_a_server_that_failed_is_not_asked(breaker: Breaker, clock: Clock) -> None:
    failed = OSError()
    assert outcomes(breaker, None, failed, None, None) == [
        "answered",
        "OSError",
        *["not asked"] * 2,
    ]
    clock.ahead += PAUSE
    assert outcomes(breaker, failed, None) == ["OSError", "not asked"]
    clock.ahead += PAUSE
    assert outcomes(breaker, None, None) == ["answered"] * 2


def test_a_server_that_hangs_has_failed(breaker: Breaker) -> None:
    assert asyncio.run(ask(breaker, seconds=60)) == "TimeoutError"
    assert outcomes(breaker, None) == ["not asked"]


def test_only_one_request_tries_again_at_a_time(breaker: Breaker, clock: Clock) -> None:
    assert outcomes(breaker, OSError()) == ["OSError"]
    clock.ahead += PAUSE

    async def together() -> list[str]:
        return await asyncio.gather(*(ask(breaker, seconds=0.01) for _ in range(3)))

    assert asyncio.run(together()) == ["answered", "not asked", "not asked"]


def test_other_errors_are_not_failures(breaker: Breaker) -> None:
    assert outcomes(breaker, ValueError(), None) == ["ValueError", "answered"]
