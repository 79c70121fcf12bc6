"""Invalid values: valid ones mutated, and bodies made from a schema to be costly to refuse."""

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import orjson

from api.contract.compile.schemas import SchemaNode, flatten

ATOMS: list[Any] = [
    None, True, -1, 2**40, 1.5, "", "x", "Ünïcode", "a" * 3000, [], {}, [1, 2], {"q": 1},
    "2026-01-01", "!" * 90,
]  # fmt: skip


def mutations(example: object, *, seed: str, count: int = 60) -> Iterator[object]:
    """Yield a valid value with some of its parts changed, removed, repeated or added."""
    chance = random.Random(seed)  # noqa: S311 - the same values at each run, not secrets.
    for _ in range(count):
        root = [deepcopy(example)]
        for _ in range(chance.randint(1, 3)):
            _mutate(chance, root)
        yield root[0]


def _mutate(chance: random.Random, root: list[object]) -> None:
    holder, key = chance.choice(list(_places(root)))
    atom = deepcopy(chance.choice(ATOMS))
    value = holder[key]
    match chance.randrange(4):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(value, list):
            holder[key] = value * chance.choice([2, 200])
        case 2 if isinstance(value, dict):
            value.update({f"member{number}": atom for number in range(chance.choice([1, 60]))})
        case _:
            holder[key] = atom


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any JSON.
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def hostile_bodies(
    bundle: SchemaNode, schema: SchemaNode, size: int
) -> Iterator[tuple[str, bytes]]:
    """Yield invalid JSON texts of about `size` bytes for a request schema, each with its shape."""
    yield "unknown members", b"{%b}" % _members(size)
    yield "one member again and again", b"{%b}" % b",".join([b'"a":1'] * (size // 6))
    yield "deep nesting", b"[" * (size // 2) + b"]" * (size // 2)
    yield "an array", b"[%b]" % _repeated(b"1", size)
    for path, inner in _inner(bundle, flatten(bundle, schema), ()):
        before = b"".join(b'{"%b":' % name.encode() if name else b"[" for name in path)
        after = b"".join(b"}" if name else b"]" for name in reversed(path))
        for shape, text in _wrong_values(inner, size):
            yield f"{shape} at /{'/'.join(path)}", before + text + after


def _wrong_values(schema: SchemaNode, size: int) -> Iterator[tuple[str, bytes]]:
    yield "a long string", b'"%b"' % (b"a" * size)
    yield "an escaped string", b'"%b"' % (rb"\u0041" * (size // 6))
    yield "a NUL after many values", rb'[%b,"\u0000"]' % _repeated(b"1", size)
    yield "nested arrays", b"[%b]" % _repeated(b"[" * 30 + b"]" * 30, size)
    for item in (b"{}", b"[]", b'""', b"null", b'{"a":1}'):
        yield f"an array of {item.decode()}", b"[%b]" % _repeated(item, size)
    yield "many members", b"{%b}" % _members(size)
    if schema.get("type") == "array":
        yield "many valid items", b"[%b]" % _repeated(_valid(schema["items"]), size)


def _valid(schema: SchemaNode) -> bytes:
    return orjson.dumps(schema.get("example", 1))


def _inner(
    bundle: SchemaNode, schema: SchemaNode, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], SchemaNode]]:
    """Yield the schemas inside one with their paths; an item of an array has an empty name.

    Of the scalars in an object one stands for all.
    """
    scalars = 0
    for name, declared in schema.get("properties", {}).items():
        inner = flatten(bundle, declared)
        scalars += inner.get("type") not in ("array", "object")
        if scalars <= 1 or inner.get("type") in ("array", "object"):
            yield (*path, name), inner
        yield from _inner(bundle, inner, (*path, name))
    if schema.get("type") == "array":
        yield from _inner(bundle, flatten(bundle, schema["items"]), (*path, ""))
    if isinstance(schema.get("additionalProperties"), dict):
        yield (*path, "a"), flatten(bundle, schema["additionalProperties"])


def _members(size: int) -> bytes:
    return b",".join(b'"!%d":1' % number for number in range(size // 9))


def _repeated(item: bytes, size: int) -> bytes:
    return b",".join([item] * max(1, size // (len(item) + 1)))
