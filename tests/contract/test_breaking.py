"""MISSION M34: a breaking change of the contract cannot land unnoticed.

`released/openapi.yaml` is the document of the last release, and `released/breaks.yaml` lists what
breaks it since, each with its reason. A break that is not listed is a failure, and so is a listed
one without a new version.
"""

import json
import tomllib
from functools import reduce
from pathlib import Path

import pytest
import yaml

from api.contract.compile.schemas import SchemaNode
from tests.contract.breaking import faults, find_breaks, run_redocly
from tests.contract.walk import broken
from tests.our_document import our_document
from tests.tools import without

HERE = Path(__file__).parent
TOP = HERE.parents[1]
REDOCLY = HERE / "node_modules/.bin/redocly"
PLANTED: list[SchemaNode] = yaml.load((HERE / "planted_breaks.yaml").read_text(), yaml.CSafeLoader)
LINE = "GET /v1/users: requires the scope users:list"
LISTED = {LINE: "Lists belong to administrators."}


def breaks_of(base: SchemaNode, today: SchemaNode, folder: Path) -> list[str]:
    if not REDOCLY.exists():
        without("Redocly is not installed: run `make test`, with npm")
    old, new = folder / "base.json", folder / "today.json"
    # Where the service runs is a setting of its operator.
    old.write_text(json.dumps({**base, "servers": []}))
    new.write_text(json.dumps({**today, "servers": []}))
    return find_breaks(run_redocly(REDOCLY, old, new, folder / "report.json"), base, today)


@pytest.fixture(scope="module")
def released() -> SchemaNode:
    document: SchemaNode = yaml.load((HERE / "released/openapi.yaml").read_text(), yaml.CSafeLoader)
    return document


@pytest.fixture(scope="module")
def planted(released: SchemaNode, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The breaks that are found after all planted ones were made."""
    return breaks_of(
        released, reduce(broken, PLANTED, released), tmp_path_factory.mktemp("planted")
    )


@pytest.mark.node
@pytest.mark.mission("M34")
def test_every_break_since_the_last_release_is_listed(released: SchemaNode, tmp_path: Path) -> None:
    today = our_document().public
    listed = yaml.safe_load((HERE / "released/breaks.yaml").read_text()) or {}
    was, now = released["info"]["version"], today["info"]["version"]
    assert list(faults(breaks_of(released, today, tmp_path), listed, was, now)) == []


def test_the_package_has_the_version_of_the_contract() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert project["version"] == our_document().public["info"]["version"]


@pytest.mark.node
@pytest.mark.mission("M34")
@pytest.mark.parametrize("line", [change["says"] for change in PLANTED])
def test_a_planted_break_is_named(planted: list[str], line: str) -> None:
    assert line in planted


@pytest.mark.node
def test_other_changes_are_not_breaks(planted: list[str]) -> None:
    assert set(planted) == {change["says"] for change in PLANTED}


@pytest.mark.parametrize(
    ("listed", "was", "now", "said"),
    [
        ({}, "0.1.0", "0.2.0", "is not listed"),
        (
            LISTED | {"GET /a: b": "Why."},
            "0.1.0",
            "0.2.0",
            "breaks nothing",
        ),
        ({LINE: " "}, "0.1.0", "0.2.0", "has no reason"),
        (LISTED, "0.1.0", "0.1.1", "must be raised"),
        (LISTED, "1.1.0", "1.2.0", "must be raised"),
    ],
)
def test_a_break_requires_a_line_a_reason_and_a_version(
    listed: dict[str, str], was: str, now: str, said: str
) -> None:
    [fault] = faults([LINE], listed, was, now)
    assert said in fault


@pytest.mark.parametrize(
    ("was", "now"), [("0.1.0", "0.2.0"), ("0.9.0", "1.0.0"), ("1.4.2", "2.0.0")]
)
def test_a_listed_break_passes_with_a_new_version(was: str, now: str) -> None:
    assert list(faults([LINE], LISTED, was, now)) == []
