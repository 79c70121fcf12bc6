"""Finding an operation costs what its own path costs, however many others there are.

Time says little on a busy machine, so the instructions that Python runs are counted.
"""

import sys
from functools import cache
from types import FrameType
from typing import Any

import pytest

from api.contract.serve import routing
from api.contract.serve.routing import Router
from tests.contract.serve.small_router import router_of

pytestmark = pytest.mark.mission("M4")

SIZES = (10, 100, 1000)
FIXED = ("/v1/things", "/v1/things/{id}", "/v1/things/{id}/parts/{part}", "/v1/things/mine")


@cache
def router(size: int) -> Router:
    """A router of the fixed paths and of as many others, which share their beginnings."""
    others = [f"/v1/other{number}/{{id}}" for number in range(size // 2)]
    others += [f"/v1/things/{{id}}/other{number}" for number in range(size // 2)]
    return router_of([*FIXED, *others])


def instructions(found: Router, path: bytes) -> int:
    """How many instructions of the routing module a search runs."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401 - as sys.settrace has it.
        nonlocal count
        if frame.f_code.co_filename != routing.__file__:
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found.match(path)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/things",
        b"/v1/things/",
        b"/v1/things/5",
        b"/v1/things/mine",
        b"/v1/things/5/parts/7",
        b"/v1/th%69ngs/5",
        b"/v1/things/5/none",
        b"/v1/none/5",
        b"/none",
        b"/",
        b"/v1/things/5/parts/7/more/and/more",
    ],
)
def test_the_cost_of_a_path_does_not_grow_with_the_number_of_paths(path: bytes) -> None:
    small, *larger = (instructions(router(size), path) for size in SIZES)
    assert small > 0
    assert larger == [small, small]


def test_results_are_equal_with_few_and_many_paths() -> None:
    for size in SIZES:
        match = router(size).match(b"/v1/things/5/parts/7")
        assert match is not None
        assert (match.resource.path, match.values) == (FIXED[2], ("5", "7"))


@pytest.mark.parametrize("segment", [b"a", b"%61", b"", b"%2f"])
def test_the_cost_is_linear_in_the_length_of_the_path(segment: bytes) -> None:
    found = router(SIZES[0])
    short, long = (
        instructions(found, b"/v1" + (b"/" + segment) * length) for length in (100, 1000)
    )
    assert long < 11 * short


def test_a_path_longer_than_any_resource_is_not_read() -> None:
    found = router(SIZES[0])
    for segment in (b"/a", b"/%61", b"a"):
        path = b"/v1/things/" + segment * 14_000
        assert found.match(path) is None
        assert instructions(found, path) < instructions(found, b"/none")
