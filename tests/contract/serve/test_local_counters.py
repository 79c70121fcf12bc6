"""Limits that are counted in memory: exact over any window, and bounded (MISSION M22)."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from api.contract.serve import local_counters
from api.contract.serve.local_counters import LocalCounters

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


def test_requests_up_to_the_limit_are_admitted(clock: Clock) -> None:
    counters = LocalCounters()
    assert [enter(counters) for _ in range(5)] == [True, True, True, False, False]
    assert enter(counters, "b")
    assert run(counters.get_moving_window("a", 3, 60)) == (clock.time(), 3)


def test_a_request_that_is_given_back_makes_room_for_one(clock: Clock) -> None:
    counters = LocalCounters()
    counters.drop_newest("a")
    first = clock.time()
    enter(counters)
    clock.now += 10
    assert [enter(counters) for _ in range(2)] == [True, True]
    counters.drop_newest("a")
    assert run(counters.get_moving_window("a", 3, 60)) == (first, 2)
    assert [enter(counters) for _ in range(2)] == [True, False]


def test_no_window_contains_more_than_the_limit(clock: Clock) -> None:
    counters, let_in = LocalCounters(), []
    for _ in range(400):
        clock.now += 0.7
        if enter(counters, window=10):
            let_in.append(clock.now)
    assert len(let_in) > 50
    for began in let_in:
        assert len([each for each in let_in if began <= each < began + 10]) <= 3


def test_a_request_that_leaves_the_window_makes_room(clock: Clock) -> None:
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


def test_refused_requests_do_not_prolong_the_wait(clock: Clock) -> None:
    counters = LocalCounters()
    for _ in range(3):
        enter(counters)
    for _ in range(59):
        clock.now += 1
        assert not enter(counters)
    clock.now += 1.1
    assert enter(counters)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_clock_change_admits_nobody_and_blocks_nobody(clock: Clock, step: float) -> None:
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


def test_unused_counters_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_storage_is_always_available() -> None:
    assert asyncio.run(LocalCounters().check())
