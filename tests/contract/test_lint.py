"""The contract keeps every rule, and every rule finds a contract that does not."""

import importlib
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.contract.document import load_document
from api.contract.schemas import SchemaNode, Validator
from api.problem_types import KINDS
from models.money import CURRENCIES, MAX_AMOUNT
from tests.contract.component_rules import files_are_where_they_belong
from tests.contract.rules import RULES, Rule
from tests.contract.walk import operations

FOLDER = Path(__file__).parents[2] / "openapi"
# These are answered where no operation is: for a method that a path does not have, and for headers
# that are too long to be read.
KINDS_OF_NO_OPERATION = {"method-not-allowed", "header-fields-too-large"}
BY_NAME = {rule.__name__: rule for rule in RULES}
BREAKS: dict[str, list[SchemaNode]] = yaml.safe_load(
    (Path(__file__).parent / "broken.yaml").read_text()
)


def broken(bundle: SchemaNode, change: SchemaNode) -> SchemaNode:
    """Return the contract after one operation of JSON Patch (RFC 6902)."""
    result = deepcopy(bundle)
    way = [key.replace("~1", "/").replace("~0", "~") for key in change["path"].split("/")[1:]]
    parent: Any = result
    for key in way[:-1]:
        parent = parent[int(key) if isinstance(parent, list) else key]
    last = int(way[-1]) if isinstance(parent, list) else way[-1]
    if change["op"] == "remove":
        del parent[last]
    else:
        parent[last] = change["value"]
    return result


@pytest.fixture(scope="module")
def bundle() -> SchemaNode:
    return load_document(FOLDER).bundle


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_contract_keeps_the_rule(bundle: SchemaNode, rule: Rule) -> None:
    assert list(rule(bundle)) == []


@pytest.mark.parametrize(
    ("rule", "change"),
    [(BY_NAME[name], change) for name, changes in BREAKS.items() for change in changes],
)
def test_the_rule_finds_a_broken_contract(
    bundle: SchemaNode, rule: Rule, change: SchemaNode
) -> None:
    assert list(rule(broken(bundle, change)))


def test_every_rule_is_shown_to_find_something() -> None:
    assert set(BREAKS) == set(BY_NAME)


def test_files_are_named_for_what_they_hold(bundle: SchemaNode) -> None:
    assert list(files_are_where_they_belong(FOLDER, bundle)) == []


@pytest.mark.parametrize("file", ["paths/accounts.yaml", "components/schemas/User.yml", "notes.md"])
def test_a_stray_file_is_found(bundle: SchemaNode, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "openapi"
    shutil.copytree(FOLDER, folder)
    (folder / file).write_text("{}")
    assert [finding.place for finding in files_are_where_they_belong(folder, bundle)] == [file]


def test_a_misnamed_path_file_is_found(bundle: SchemaNode, tmp_path: Path) -> None:
    folder = tmp_path / "openapi"
    shutil.copytree(FOLDER, folder)
    (folder / "paths" / "users.yaml").rename(folder / "paths" / "people.yaml")
    places = {finding.place for finding in files_are_where_they_belong(folder, bundle)}
    assert places == {"paths/users.yaml", "paths/people.yaml"}


def test_every_operation_has_a_handler_of_its_name(bundle: SchemaNode) -> None:
    for operation in operations(bundle):
        module = importlib.import_module(f"api.{operation.node['tags'][0]}")
        assert callable(getattr(module, operation.node["operationId"], None)), operation.place


def test_the_contract_shows_every_problem_as_it_is_sent(bundle: SchemaNode) -> None:
    examples = bundle["components"]["examples"].values()
    shown = {
        (value["type"].rpartition("/")[2], value["status"], value["title"])
        for value in (example["value"] for example in examples)
    }
    sent = {(kind.slug, kind.status, kind.title) for kind in KINDS}
    assert shown == {kind for kind in sent if kind[0] not in KINDS_OF_NO_OPERATION}


def test_prices_can_have_every_currency_that_has_a_minor_unit(bundle: SchemaNode) -> None:
    declared = bundle["components"]["schemas"]
    assert declared["Currency"]["enum"] == list(CURRENCIES)
    assert declared["Amount"]["maximum"] == MAX_AMOUNT
    described = Validator(bundle, declared["CurrencyInfo"])
    assert all(described.is_valid(currency._asdict()) for currency in CURRENCIES.values())
