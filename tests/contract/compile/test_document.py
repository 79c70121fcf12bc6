"""The contract is read strictly and bundled with its names; errors give file and location."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from api.contract.compile.document import Document, load_document
from api.contract.engine_errors import ContractError

FOLDER = Path(__file__).parents[3] / "openapi"
DIVIDE = "paths/divide/divide.yaml"


@pytest.fixture(scope="module")
def document() -> Document:
    return load_document(FOLDER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the contract, to be broken."""
    copy = tmp_path / "openapi"
    shutil.copytree(FOLDER, copy)
    return copy


def replace(folder: Path, file: str, text: str, other: str) -> None:
    content = (folder / file).read_text()
    assert text in content
    (folder / file).write_text(content.replace(text, other, 1))


def message(folder: Path) -> str:
    with pytest.raises(ContractError) as caught:
        load_document(folder)
    return str(caught.value)


def test_components_keep_their_names(document: Document) -> None:
    assert "/v1/orders/{order_id}/refund" in document.bundle["paths"]
    answer = document.bundle["paths"]["/v1/users/{user_id}"]["get"]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/User"}
    properties = document.bundle["components"]["schemas"]["User"]["properties"]
    assert properties["id"] == {"$ref": "#/components/schemas/UserId"}


def test_engine_only_keys_are_not_served(document: Document) -> None:
    assert document.bundle["paths"]["/health"]["get"]["x-engine-pool"] == "inline"
    for served in (document.json, document.yaml):
        assert b"x-engine-" not in served
        assert b"x-rate-limit" in served


def test_scopes_are_served_as_openapi_3_0_allows(document: Document) -> None:
    for name, path, method, scopes, sentence in (
        ("security", "/v1/users", "get", ["admin:access", "users:list"], "Required scopes: "),
        ("one", "/v1/profile", "get", ["profile:read"], "Required scope: `profile:read`."),
        ("optional", "/v1/products", "get", ["products:read"], "Required scope with a token: "),
    ):
        operation = document.public["paths"][path][method]
        assert operation["x-scopes"] == scopes, name
        assert sentence in operation["description"], name
        assert operation["security"][0] == {"bearer": []}
    assert "x-scopes" not in document.public["paths"]["/health"]["get"]


def test_json_and_yaml_are_the_same_document(document: Document) -> None:
    assert (
        json.loads(document.json) == yaml.load(document.yaml, yaml.CSafeLoader) == document.public
    )


def test_the_same_contract_is_the_same_bytes(document: Document) -> None:
    again = load_document(FOLDER)
    assert (again.json, again.yaml) == (document.json, document.yaml)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert message(tmp_path) == "openapi.yaml: No such file or directory"


def test_a_missing_path_file_is_named(folder: Path) -> None:
    (folder / DIVIDE).unlink()
    assert message(folder) == f"{DIVIDE}: No such file or directory"


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("get:\n", "get:\n\t", "found character that cannot start any token"),
        (
            "summary:",
            "summary: x\n  summary:",
            "the key summary is duplicated",
        ),
        ("'200'", "200", "the key 200 is not a string; put it in quotes"),
        ("security: []", "security: !!python/name:os.system", "could not determine a constructor"),
        ("tags: [divide]", "tags: *divide", "found undefined alias"),
    ],
)
def test_invalid_yaml_is_refused(folder: Path, text: str, other: str, expected: str) -> None:
    replace(folder, DIVIDE, text, other)
    assert message(folder).startswith(f"{DIVIDE}: line ")
    assert expected in message(folder)


@pytest.mark.parametrize("content", ["", "[]", "\x00", "\ufffe", "a: 1\n---\nb: 2\n"])
def test_a_file_that_is_not_a_mapping_is_refused(folder: Path, content: str) -> None:
    (folder / DIVIDE).write_text(content)
    assert message(folder).startswith(f"{DIVIDE}: ")


def test_texts_like_dates_or_booleans_stay_texts(folder: Path) -> None:
    replace(folder, DIVIDE, "summary: ", "summary: 12:30 # ")
    replace(folder, "paths/health/health.yaml", "summary: ", "summary: yes # ")
    replace(folder, "paths/profile/profile.yaml", "summary: ", "summary: 2026-01-31 # ")
    paths = load_document(folder).bundle["paths"]
    summaries = [paths[url]["get"]["summary"] for url in ("/v1/divide", "/health", "/v1/profile")]
    assert summaries == ["12:30", "yes", "2026-01-31"]


@pytest.mark.parametrize(
    "reference",
    [
        "../../components/schemas/Ratio.yaml",
        "../../components/schemas/Quotient",
        "../../../openapi/components/schemas/Quotient.yaml",
        "#/components/schemas/Quotient",
        "health.yaml",
    ],
)
def test_a_reference_outside_the_components_is_refused(folder: Path, reference: str) -> None:
    replace(folder, DIVIDE, "../../components/schemas/Quotient.yaml", f"'{reference}'")
    place = "/get/responses/200/content/application~1json/schema"
    assert message(folder) == f"{DIVIDE}: {place}: $ref {reference} is not the file of a component"


def test_an_inline_path_in_the_root_is_refused(folder: Path) -> None:
    replace(folder, "openapi.yaml", "    $ref: paths/health/health.yaml", "    get: {}")
    assert message(folder) == "openapi.yaml: /paths/~1health: is not a $ref to a file of its own"


@pytest.mark.parametrize(
    ("file", "text", "other", "expected"),
    [
        ("openapi.yaml", "openapi: 3.0.3", "openapi: 3.1.0", "openapi.yaml: /openapi: "),
        ("openapi.yaml", "  title: Concord\n", "", 'openapi.yaml: /info: "title"'),
        (DIVIDE, "responses:", "answers:", f"{DIVIDE}: /get: "),
        (
            "components/schemas/Role.yaml",
            "type: string",
            "type: text",
            "components/schemas/Role.yaml: ",
        ),
    ],
)
def test_invalid_openapi_is_refused_in_one_line(
    folder: Path, file: str, text: str, other: str, expected: str
) -> None:
    replace(folder, file, text, other)
    assert expected in message(folder)
    assert "\n" not in message(folder)
    assert len(message(folder)) < 500
