"""Each behaviour that the mission owes has a test that is named for it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DELIVERED = (
    *("M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9", "M10", "M11", "M12", "M13", "M14"),
    *("M15", "M16", "M17", "M18", "M19", "M20", "M21", "M22", "M23", "M24", "M25", "M26", "M27"),
    *("M28", "M29", "M30", "M31", "M32", "M34", "M35"),
)
ALL = frozenset(f"M{number}" for number in range(1, 36))


@cache
def marked() -> dict[str, frozenset[str]]:
    """Return the tests of each row, by the marker `mission`, as the files say it."""
    found: dict[str, set[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" in file.parts:
            continue
        tree = ast.parse(file.read_text())
        for name, node in _marking(tree):
            for row in _rows(node):
                found.setdefault(row, set()).add(f"{file.relative_to(TESTS)}::{name}")
    return {row: frozenset(tests) for row, tests in found.items()}


def _marking(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield what marks something, and the test that it marks; `*` is a whole file."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name.startswith("test_"):
                yield from ((node.name, decorator) for decorator in node.decorator_list)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield "*", node.value


def _rows(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.mission":
            for argument in node.args:
                assert isinstance(argument, ast.Constant)
                yield str(argument.value)


@pytest.mark.parametrize("row", DELIVERED)
def test_a_delivered_row_has_a_test(row: str) -> None:
    assert marked().get(row), f"no test is marked with mission({row!r})"


def test_every_marked_row_exists() -> None:
    assert set(marked()) <= ALL


def test_marks_are_found_on_tests_and_on_whole_files() -> None:
    tree = ast.parse(
        "pytestmark = [pytest.mark.mission('M1'), pytest.mark.redis]\n"
        "@pytest.mark.mission('M2')\ndef test_a(): ...\n"
        "@pytest.mark.mission('M3')\ndef helper(): ...\n"
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.mission('M4'))])\n"
        "def test_b(): ...\n"
    )
    rows = {name: list(_rows(node)) for name, node in _marking(tree)}
    assert rows == {"*": ["M1"], "test_a": ["M2"], "test_b": ["M4"]}
