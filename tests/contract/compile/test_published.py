"""MISSION M34: the contract is served as OpenAPI 3.0.3 and 3.1, and both say the same."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from api.contract.compile.document import Document
from api.contract.compile.published import upgrade
from api.contract.compile.schemas import LONGEST_NAME, SchemaNode
from tests.clients.generating import without_webhooks
from tests.our_document import our_document
from tests.tools import find_tool, without

HERE = Path(__file__).parent
CLIENTS = HERE.parents[1] / "clients"
VALUES = ("default", "enum", "example")


@pytest.fixture(scope="module")
def document() -> Document:
    return our_document()


@pytest.fixture(scope="module")
def newer(document: Document) -> SchemaNode:
    """The document in OpenAPI 3.1, as it is served."""
    parsed: SchemaNode = json.loads(document.json_31)
    return parsed


def as_3_0(node: object) -> object:
    """Write what only OpenAPI 3.1 has as OpenAPI 3.0 does."""
    if isinstance(node, list):
        return [as_3_0(item) for item in node]
    if not isinstance(node, dict):
        return node
    result: SchemaNode = {}
    for key, value in node.items():
        match key, value:
            case "openapi", "3.1.0":
                result[key] = "3.0.3"
            case "webhooks", _:
                result["x-webhooks"] = as_3_0(value)
            case "type", [name, "null"]:
                result |= {key: name, "nullable": True}
            case "examples", [example]:
                result["example"] = example
            case "propertyNames", {"pattern": pattern, "maxLength": length}:
                assert length == LONGEST_NAME
                result["x-property-names"] = pattern
            case "security", list():
                result[key] = [{name: [] for name in each} for each in value]
            case _:
                result[key] = value if key in VALUES else as_3_0(value)
    return result


@pytest.mark.mission("M34")
def test_the_file_of_a_form_is_required_in_a_way_that_go_compiles(document: Document) -> None:
    form = document.public["components"]["schemas"]["PictureForm"]
    assert "required" not in form
    assert (form["minProperties"], form["additionalProperties"]) == (1, False)
    assert (
        list(form["properties"])
        == document.bundle["components"]["schemas"]["PictureForm"]["required"]
    )


@pytest.mark.mission("M34")
def test_json_that_is_read_raw_is_an_object_for_clients(document: Document) -> None:
    event = document.bundle["components"]["schemas"]["SignedEvent"]
    assert event["format"] == "binary"
    served = document.public["components"]["schemas"]["SignedEvent"]
    assert served == {"type": "object", "description": event["description"]}


@pytest.mark.mission("M34")
def test_both_documents_describe_the_same_api(document: Document, newer: SchemaNode) -> None:
    assert as_3_0(newer) == document.public


@pytest.mark.mission("M34")
def test_both_documents_are_valid(document: Document, newer: SchemaNode) -> None:
    assert list(OpenAPIV30SpecValidator(document.public).iter_errors()) == []
    assert list(OpenAPIV31SpecValidator(newer).iter_errors()) == []


@pytest.mark.mission("M34")
def test_the_newer_document_uses_features_of_3_1(newer: SchemaNode) -> None:
    schemas = newer["components"]["schemas"]
    assert schemas["OrderNote"]["type"] == ["string", "null"]
    assert "pattern" in schemas["Metadata"]["propertyNames"]
    assert newer["paths"]["/v1/profile"]["get"]["security"] == [{"bearer": ["profile:read"]}]
    assert newer["paths"]["/v1/products"]["get"]["security"][1] == {}
    text = json.dumps(newer)
    assert '"nullable"' not in text
    assert '"x-property-names"' not in text


def test_keywords_of_3_0_become_json_schema() -> None:
    schema: SchemaNode = {
        "allOf": [{"type": "number", "minimum": 0, "exclusiveMinimum": True, "example": 1}],
        "properties": {"example": {"type": "string", "nullable": True, "enum": ["a"]}},
        "items": {"maximum": 9, "exclusiveMaximum": False},
        "additionalProperties": False,
    }
    document = {"openapi": "3.0.3", "paths": {}, "components": {"schemas": {"A": schema}}}
    assert upgrade(document)["components"]["schemas"]["A"] == {
        "allOf": [{"type": "number", "exclusiveMinimum": 0, "examples": [1]}],
        "properties": {"example": {"type": ["string", "null"], "enum": ["a", None]}},
        "items": {"maximum": 9},
        "additionalProperties": False,
    }


def code_of(path: Path) -> str:
    """Return a module without its docstrings, which show the examples of 3.0 alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.mission("M34")
def test_the_python_client_of_both_documents_is_the_same(
    document: Document, tmp_path: Path
) -> None:
    generator = Path(sys.executable).with_name("openapi-python-client")
    config = CLIENTS / "openapi-python-client.yaml"
    made = []
    for name, content in (("old", document.json), ("new", document.json_31)):
        (tmp_path / f"{name}.json").write_bytes(content)
        files = ("--path", tmp_path / f"{name}.json", "--output-path", tmp_path / name)
        options = ("--meta", "none", "--config", config, "--fail-on-warning")
        subprocess.run([generator, "generate", *files, *options], check=True, cwd=tmp_path)  # noqa: S603 - our own program.
        made.append({path.name: code_of(path) for path in (tmp_path / name).rglob("*.py")})
    assert made[0] == made[1]


@pytest.mark.node
@pytest.mark.mission("M34")
def test_the_typescript_types_of_both_documents_are_the_same(
    document: Document, tmp_path: Path
) -> None:
    generator = CLIENTS / "node_modules/openapi-typescript/bin/cli.js"
    if not generator.exists():
        without("openapi-typescript is not installed: run `make test`, with npm")
    made = []
    for name, content in (("old", document.json), ("new", document.json_31)):
        file = tmp_path / f"{name}.json"
        file.write_bytes(content)
        command = [find_tool("node", "nodejs"), str(generator), str(file), "--output", f"{file}.ts"]
        subprocess.run(command, check=True, cwd=tmp_path)  # noqa: S603 - our own program.
        made.append(without_webhooks((tmp_path / f"{name}.json.ts").read_text()))
    assert made[0] == made[1]
