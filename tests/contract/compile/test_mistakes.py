"""A mistake in a contract is reported in one line: file, JSON Pointer, and correction."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from api.contract.asgi import make_asgi
from api.contract.contract import Contract, load_contract
from api.contract.engine_errors import ContractError, ContractViolation
from api.contract.serve.request import Answer
from tests.contract.example.library import FOLDER, HANDLERS, make_ports, scope_fault

pytestmark = pytest.mark.mission("M35")
MISTAKES = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text())


def load(folder: Path) -> Contract:
    return load_contract(folder, HANDLERS, scope_fault)


def serve(folder: Path) -> None:
    contract = load(folder)
    make_asgi(contract, make_ports(contract))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example contract, to be broken."""
    copy = tmp_path / "openapi"
    shutil.copytree(FOLDER, copy)
    return copy


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(folder: Path, name: str) -> None:
    mistake = MISTAKES[name]
    file = folder / mistake["file"]
    content = file.read_text()
    assert mistake["text"] in content
    file.write_text(content.replace(mistake["text"], mistake["becomes"], 1))
    with pytest.raises(ContractError) as caught:
        serve(folder)
    assert str(caught.value) == mistake["says"]
    assert "\n" not in str(caught.value)


def test_responses_of_a_tested_contract_are_compiled_when_checked(folder: Path) -> None:
    file, mistake = folder / "components/schemas/Shelf.yaml", "schema that cannot be compiled"
    text, becomes = MISTAKES[mistake]["text"], MISTAKES[mistake]["becomes"]
    file.write_text(file.read_text().replace(text, becomes))
    contract = load_contract(folder, HANDLERS, scope_fault, is_tested=True)
    answer = Answer(200, [("Content-Type", "application/json")], b"{}")
    with pytest.raises(ContractViolation, match="cannot be compiled"):
        contract.verifier.mismatch(contract.operations["get_shelf"], answer)


@pytest.mark.parametrize("name", ["Problem", "RequestId"])
def test_a_schema_that_the_engine_needs_is_named(folder: Path, name: str) -> None:
    (folder / f"components/schemas/{name}.yaml").rename(folder / "components/schemas/Other.yaml")
    for file in folder.rglob("*.yaml"):
        text = file.read_text().replace(f"schemas/{name}.yaml", "schemas/Other.yaml")
        file.write_text(text.replace(f"{{$ref: {name}.yaml}}", "{$ref: Other.yaml}"))
    with pytest.raises(ContractError) as caught:
        load(folder)
    reason = f"the engine needs components/schemas/{name}.yaml; add it"
    assert str(caught.value) == f"openapi.yaml: /components/schemas: {reason}"


def test_an_unsupported_security_scheme_is_named() -> None:
    contract = load(FOLDER)
    ports = replace(make_ports(contract), authenticators={})
    with pytest.raises(ContractError) as caught:
        make_asgi(contract, ports)
    reason = "no authenticator for readerCard; add it to Ports.authenticators"
    assert str(caught.value) == f"paths/books.yaml: /post/security: {reason}"
