"""Refusing a request takes time and memory proportional to its size."""

import gc
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from api.contract.compile.operations import Operation, compile_operations
from api.contract.compile.parameters import Parameter, decode_headers
from api.contract.compile.schemas import SchemaNode, Validators, resolve
from api.contract.engine_errors import InvalidBody, InvalidParameters, UnsupportedMediaType
from api.contract.serve.bodies import read_json
from api.contract.serve.request import read_fields
from tests.contract.serve.hostile import hostile_bodies
from tests.contract.walk import operations
from tests.our_document import our_document

ROOT = Path(__file__).parents[3]
BUNDLE = our_document().bundle
OPERATIONS = compile_operations(BUNDLE, Validators(BUNDLE))
REFUSING = [operation for operation in OPERATIONS if not operation.query.ignores_others]
WITH_BODY = [operation for operation in OPERATIONS if operation.body is not None]
BODIES: dict[str, SchemaNode] = {
    operation.node["operationId"]: operation.node["requestBody"]["content"]["application/json"]
    for operation in operations(BUNDLE)
    if "application/json" in operation.node.get("requestBody", {}).get("content", {})
}
FIELDS = {"content-type": "application/json"}
SIZE = 64_000
HEADERS = 28_000
"""Bytes of a query or a header field: with the rest of the headers nearly all that is read."""
TRIES = 25
SLOWNESS = 3
MEMORY = 64 * 1024
"""KiB that all refusals may add to a process."""


def seconds(work: Callable[[], object]) -> float:
    """The processor time of a piece of work, without the time of Python's garbage collector.

    The collector looks at everything in the process, and the process of a test run holds a lot.
    """
    gc.disable()
    try:
        began = time.process_time()
        work()
        return time.process_time() - began
    finally:
        gc.enable()


def is_quick(work: Callable[[], object], limit: float) -> bool:
    """Whether work takes so many seconds at most on a quiet machine, once in several tries.

    A shared machine can be slower for minutes, so three times the limit passes; the faults that
    this has to find took more than ten times as long.
    """
    return any(seconds(work) <= SLOWNESS * limit for _ in range(TRIES))


def refuse(operation: Operation, text: bytes) -> None:
    assert operation.body is not None
    with pytest.raises(InvalidBody):
        read_json(operation.body, FIELDS, text)


def grows_linearly(operation: Operation, half: bytes, whole: bytes) -> bool:
    """Whether the whole takes less than 2.5 times as long as half of it, and a millisecond."""

    def excess() -> float:
        few = seconds(partial(refuse, operation, half))
        return seconds(partial(refuse, operation, whole)) - 2.5 * few

    return any(excess() < 0.001 for _ in range(TRIES))


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda operation: operation.id)
def test_time_to_refuse_a_body_grows_linearly(operation: Operation) -> None:
    schema = resolve(BUNDLE, BODIES[operation.id]["schema"])
    halves = hostile_bodies(BUNDLE, schema, SIZE // 2)
    for (_, half), (shape, whole) in zip(halves, hostile_bodies(BUNDLE, schema, SIZE), strict=True):
        assert is_quick(partial(refuse, operation, whole), 0.020), shape
        assert grows_linearly(operation, half, whole), shape


def test_refusing_bodies_takes_little_memory() -> None:
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.contract.serve.test_refusal_cost import *; refuse_all()",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert int(finished.stdout) < MEMORY


def refuse_all() -> None:
    """Refuse every hostile body in this process and print the KiB that its memory grew by."""
    limit = 2 * 1024**3
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for operation in WITH_BODY:
        schema = resolve(BUNDLE, BODIES[operation.id]["schema"])
        for _, text in hostile_bodies(BUNDLE, schema, SIZE):
            refuse(operation, text)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)  # noqa: T201 - for the test above.


def queries(name: str, size: int) -> dict[str, bytes]:
    """Hostile queries of so many bytes that use a parameter's name."""
    pair = name.encode() + b"="
    return {
        "names": b"a&" * (size // 2),
        "different names": b"&".join(b"%d=" % number for number in range(size // 7)),
        "separators": b"&" * size,
        "repeated": (pair + b"a&") * (size // (len(pair) + 2)),
        "long": pair + b"a" * size,
        "digits": pair + b"1" * size,
        "commas": pair + b"a," * (size // 2),
        "escaped": pair + b"%41" * (size // 3),
        "wide": pair + b"%F0%9F%98%80" * (size // 12),
        "escapes of nothing": pair + b"%" * size,
        "cursor": pair + b"." + b"a" * (size // 2) + b"." + b"b" * (size // 2),
    }


@pytest.mark.parametrize("operation", REFUSING, ids=lambda operation: operation.id)
def test_no_query_costs_more_than_a_few_milliseconds(operation: Operation) -> None:
    def decode(query: bytes) -> None:
        with pytest.raises(InvalidParameters):
            operation.query.decode(query)

    for name in operation.query.by_name or ["a"]:
        for shape, query in queries(name, HEADERS).items():
            assert is_quick(partial(decode, query), 0.004), (name, shape)


HEADER_PARAMETERS = {
    name: parameter
    for operation in OPERATIONS
    for name, parameter in operation.headers.items()
    if name != "x-request-id"
}


@pytest.mark.parametrize("parameter", HEADER_PARAMETERS.values(), ids=HEADER_PARAMETERS)
@pytest.mark.parametrize("text", ["a", ",", '"a",', 'W/"a" , '])
def test_no_header_costs_more_than_a_few_milliseconds(parameter: Parameter, text: str) -> None:
    name = parameter.name.lower()
    fields = {name: text * (HEADERS // len(text))}

    def decode() -> None:
        with pytest.raises(InvalidParameters):
            decode_headers({name: parameter}, fields)

    assert is_quick(decode, 0.004)


@pytest.mark.parametrize("text", [";", ";a=b", ';a="b"', ";a*=utf-8''%41", ";a*0=b", "a"])
def test_no_content_type_costs_more_than_a_millisecond(text: str) -> None:
    fields = {"content-type": "application/json" + text * (HEADERS // len(text))}

    def read() -> None:
        assert WITH_BODY[0].body is not None
        with pytest.raises(UnsupportedMediaType):
            read_json(WITH_BODY[0].body, fields, b"{}")

    assert is_quick(read, 0.001)


def test_repeated_headers_are_joined_in_linear_time() -> None:
    def joined(count: int) -> Callable[[], object]:
        return lambda: read_fields([(b"a", b"b")] * count)

    assert any(
        seconds(joined(80_000)) < 2.5 * seconds(joined(40_000)) + 0.001 for _ in range(TRIES)
    )
    assert read_fields([(b"A", b"b "), (b"c", b"d"), (b"a", b"e")]) == {"a": "b, e", "c": "d"}
