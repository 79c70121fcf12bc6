"""Every requirement of OWASP ASVS 5.0 that concerns this service has a verdict, and one that holds.

The table is tests/asvs.yaml. A test or a text that it names has to be there.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

pytestmark = pytest.mark.mission("M26")

ROOT = Path(__file__).parents[2]
TABLE = yaml.load((ROOT / "tests" / "asvs.yaml").read_text(), yaml.CSafeLoader)
VERDICTS = frozenset({"tests", "documents", "not_applicable", "operator", "unmet", "pending"})
LISTS = frozenset({"tests", "documents"})

Requirement: TypeAlias = Mapping[str, Any]


def rows(table: Mapping[str, Any]) -> Iterator[tuple[str, Requirement]]:
    """Yield every requirement with its chapter."""
    for chapter in table["chapters"]:
        for requirement in chapter["requirements"]:
            yield chapter["chapter"], requirement


@cache
def functions(file: Path) -> frozenset[str]:
    """The tests of a file."""
    if not file.is_file():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    )


@cache
def words(file: Path) -> str:
    """The text of a file without its line breaks."""
    return " ".join(file.read_text().split()) if file.is_file() else ""


def faults(table: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the table, in sentences."""
    found = list(_miscounts(table))
    for chapter, requirement in rows(table):
        name = requirement["id"]
        found += [f"{name} {fault}" for fault in _faults(chapter, requirement)]
    return found


def _miscounts(table: Mapping[str, Any]) -> Iterator[str]:
    ids = Counter(requirement["id"] for _, requirement in rows(table))
    yield from (f"{name} stands there {times} times" for name, times in ids.items() if times > 1)
    there = Counter((chapter, requirement["level"]) for chapter, requirement in rows(table))
    wanted = Counter(
        {
            (chapter, level): count
            for chapter, levels in table["counts"].items()
            for level, count in levels.items()
        }
    )
    for chapter, level in sorted(there.keys() | wanted.keys()):
        key = chapter, level
        if there[key] != wanted[key]:
            yield f"{chapter} has {wanted[key]} of level {level}, of which {there[key]} are there"


def _faults(chapter: str, requirement: Requirement) -> Iterator[str]:
    if f"V{requirement['id'].partition('.')[0]}" != chapter:
        yield f"is not of {chapter}"
    if not requirement.get("about"):
        yield "does not say what it is about"
    unknown = requirement.keys() - VERDICTS - {"id", "level", "about"}
    if unknown:
        yield f"has {', '.join(sorted(unknown))}"
    verdicts = sorted(VERDICTS & requirement.keys())
    if len(verdicts) != 1:
        yield f"has {len(verdicts)} verdicts"
    for verdict in verdicts:
        yield from _unfounded(verdict, requirement[verdict])


def _unfounded(verdict: str, grounds: object) -> Iterator[str]:
    """Say what a verdict lacks."""
    if not isinstance(grounds, list if verdict in LISTS else str) or not grounds:
        yield f"has no grounds to be {verdict}"
    elif verdict == "pending":
        yield "is pending"
    elif isinstance(grounds, list):
        is_there = _is_test if verdict == "tests" else _is_written
        yield from (f"rests on {each!r}" for each in grounds if not is_there(each))


def _is_test(named: str) -> bool:
    file, _, function = named.partition("::")
    return function in functions(ROOT / "tests" / file)


def _is_written(named: str) -> bool:
    file, _, text = named.partition(": ")
    return bool(text) and " ".join(text.split()) in words(ROOT / file)


def test_every_requirement_has_a_valid_verdict() -> None:
    found = faults(TABLE)
    assert not found, "\n".join(found)


HERE = "contract/test_asvs.py::test_an_invalid_table_is_found"
GOOD = {"id": "6.2.1", "level": 1, "about": "Length.", "tests": [HERE]}
OTHER = {"id": "6.2.2", "level": 1, "about": "Change.", "documents": ["README.md: # Concord"]}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tests": ["contract/test_asvs.py::test_nothing"]}, "6.2.1 rests on"),
        ({"tests": ["contract/test_asvs.py::faults"]}, "6.2.1 rests on"),
        ({"tests": ["contract/test_no_such_file.py::test_a"]}, "6.2.1 rests on"),
        ({"tests": []}, "6.2.1 has no grounds"),
        ({"unmet": "Nothing is done."}, "6.2.1 has 2 verdicts"),
        ({"id": "6.2.2"}, "6.2.2 stands there 2 times"),
        ({"id": "7.2.1"}, "7.2.1 is not of V6"),
        ({"level": 2}, "V6 has 2 of level 1, of which 1 are there"),
        ({"about": ""}, "6.2.1 does not say"),
        ({"test": "typing error"}, "6.2.1 has test"),
    ],
)
def test_an_invalid_table_is_found(changes: Requirement, fault: str) -> None:
    assert faults(_table(GOOD, OTHER)) == []
    assert any(each.startswith(fault) for each in faults(_table({**GOOD, **changes}, OTHER)))


@pytest.mark.parametrize(
    ("verdict", "fault"),
    [
        ({}, "has 0 verdicts"),
        ({"pending": "what is to come"}, "is pending"),
        ({"not_applicable": ""}, "has no grounds to be not_applicable"),
        ({"unmet": ["a list"]}, "has no grounds to be unmet"),
        ({"documents": ["README.md: words that nobody wrote"]}, "rests on"),
        ({"documents": ["README.md"]}, "rests on"),
        ({"documents": ["NO-SUCH-FILE.md: words"]}, "rests on"),
    ],
)
def test_a_verdict_without_grounds_is_found(verdict: Requirement, fault: str) -> None:
    bare = {name: value for name, value in GOOD.items() if name not in VERDICTS}
    [found] = faults(_table({**bare, **verdict}, OTHER))
    assert found.startswith(f"6.2.1 {fault}")


def _table(*requirements: Requirement) -> Mapping[str, Any]:
    chapter = {"chapter": "V6", "name": "Authentication", "requirements": list(requirements)}
    return {"counts": {"V6": {1: 2}}, "chapters": [chapter]}
