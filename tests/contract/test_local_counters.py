"""Limits that are counted in memory: exact over any window, and bounded (MISSION M22)."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from api.contract import local_counters
from api.contract.local_counters import LocalCounters

pytestmark = pytest.mark.mission("M22")

T = TypeVar("T")
HOUR = 3600.0


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.stepped = 0.0

    def time(self) -> float:
        return self.now + self.stepped

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    yield clock
    monkeypatch.undo()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, without an event loop, whose clock would stand still."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something")


def enter(counters: LocalCounters, key: str = "a", *, limit: int = 3, window: int = 60) -> bool:
    return run(counters.acquire_entry(key, limit, window))


def test_so_many_are_let_in_and_no_more(clock: Clock) -> None:
    counters = LocalCounters()
    assert [enter(counters) for _ in range(5)] == [True, True, True, False, False]
    assert enter(counters, "b")
    assert run(counters.get_moving_window("a", 3, 60)) == (clock.time(), 3)


def test_at_no_instant_are_there_more_than_the_limit_in_a_window(clock: Clock) -> None:
    counters, let_in = LocalCounters(), []
    for _ in range(400):
        clock.now += 0.7
        if enter(counters, window=10):
            let_in.append(clock.now)
    assert len(let_in) > 50
    for began in let_in:
        assert len([each for each in let_in if began <= each < began + 10]) <= 3


def test_a_place_is_free_again_when_its_request_leaves_the_window(clock: Clock) -> None:
    counters = LocalCounters()
    for _ in range(3):
        assert enter(counters)
        clock.now += 10
    assert not enter(counters)
    oldest, number = run(counters.get_moving_window("a", 3, 60))
    assert (oldest, number) == (clock.time() - 30, 3)
    clock.now += 29.9
    assert not enter(counters)
    clock.now += 0.2
    assert enter(counters)
    assert not enter(counters)


def test_refused_requests_do_not_put_off_the_end(clock: Clock) -> None:
    counters = LocalCounters()
    for _ in range(3):
        enter(counters)
    for _ in range(59):
        clock.now += 1
        assert not enter(counters)
    clock.now += 1.1
    assert enter(counters)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_clock_that_is_put_right_lets_nobody_in_and_keeps_nobody_out(
    clock: Clock, step: float
) -> None:
    counters = LocalCounters()
    for _ in range(3):
        assert enter(counters)
    clock.stepped = step
    clock.now += 30
    assert not enter(counters)
    assert run(counters.get_moving_window("a", 3, 60))[0] == clock.time() - 30
    clock.now += 31
    assert enter(counters)


def test_a_counter_counts_until_it_expires(clock: Clock) -> None:
    counters = LocalCounters()
    assert [run(counters.incr("a", 60)) for _ in range(3)] == [1, 2, 3]
    assert (run(counters.get("a")), run(counters.get("b"))) == (3, 0)
    clock.now += 61
    assert run(counters.get("a")) == 0
    assert run(counters.incr("a", 60)) == 1


def test_what_nobody_counts_any_more_is_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_counters, "_SWEEP_EVERY", 10)
    counters = LocalCounters()
    for number in range(1000):
        assert enter(counters, f"key {number}", window=1)
        run(counters.incr(f"count {number}", 1))
        clock.now += 0.5
    assert run(counters.reset()) < 50


def test_the_number_of_keys_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_counters, "_MAX_KEYS", 100)
    counters = LocalCounters()
    for number in range(1000):
        clock.now += 0.001
        assert enter(counters, f"key {number}")
        run(counters.incr(f"count {number}", 60))
    assert run(counters.reset()) == 200


def test_it_is_always_there() -> None:
    assert asyncio.run(LocalCounters().check())
