"""The contract follows every rule, and every rule finds a contract that breaks it."""

import importlib
import shutil
from pathlib import Path

import pytest
import yaml

from api.contract.compile.schemas import SchemaNode, Validator
from models.money import MAX_AMOUNT, currencies
from tests.contract.lint.component_rules import files_are_where_they_belong
from tests.contract.lint.rules import RULES, Rule
from tests.contract.walk import broken, operations
from tests.our_document import our_document

FOLDER = Path(__file__).parents[3] / "openapi"
BY_NAME = {rule.__name__: rule for rule in RULES}
BREAKS: dict[str, list[SchemaNode]] = yaml.safe_load(
    (Path(__file__).parent / "broken.yaml").read_text()
)


@pytest.fixture(scope="module")
def bundle() -> SchemaNode:
    return our_document().bundle


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


def test_files_are_named_for_their_content(bundle: SchemaNode) -> None:
    assert list(files_are_where_they_belong(FOLDER, bundle)) == []


@pytest.mark.parametrize(
    "file", ["paths/users/accounts.yaml", "components/schemas/User.yml", "notes.md"]
)
def test_a_stray_file_is_found(bundle: SchemaNode, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "openapi"
    shutil.copytree(FOLDER, folder)
    (folder / file).write_text("{}")
    assert [finding.place for finding in files_are_where_they_belong(folder, bundle)] == [file]


def test_a_misnamed_path_file_is_found(bundle: SchemaNode, tmp_path: Path) -> None:
    folder = tmp_path / "openapi"
    shutil.copytree(FOLDER, folder)
    (folder / "paths/users/users.yaml").rename(folder / "paths/users/people.yaml")
    places = {finding.place for finding in files_are_where_they_belong(folder, bundle)}
    assert places == {"paths/users/users.yaml", "paths/users/people.yaml"}


def test_every_operation_has_a_handler_with_its_name(bundle: SchemaNode) -> None:
    for operation in operations(bundle):
        module = importlib.import_module(f"api.{operation.node['tags'][0]}")
        assert callable(getattr(module, operation.node["operationId"], None)), operation.place


def test_prices_can_have_every_currency_with_a_minor_unit(bundle: SchemaNode) -> None:
    declared = bundle["components"]["schemas"]
    assert declared["Currency"]["enum"] == list(currencies())
    assert declared["Amount"]["maximum"] == MAX_AMOUNT
    described = Validator(bundle, declared["CurrencyInfo"])
    assert all(described.is_valid(currency._asdict()) for currency in currencies().values())
