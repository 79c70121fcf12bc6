"""Spectral, with OWASP's rules, and Redocly find nothing in the contract as clients get it.

Both run without a network. They come from npm, pinned in `package.json` and `package-lock.json`
beside this file, and are installed when they are first needed. `.spectral.yaml` and `redocly.yaml`
give the reason for each rule that is off.
"""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import yaml

from api.contract.compile.document import Document
from api.contract.compile.schemas import SchemaNode
from tests.contract.walk import broken
from tests.our_document import our_document

HERE = Path(__file__).parent
TOP = HERE.parents[1]
BIN = HERE / "node_modules" / ".bin"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}
SPECTRAL = [f"{BIN}/spectral", "lint", "--fail-severity=hint", "-r"]
COMMANDS = {
    "spectral": [*SPECTRAL, f"{TOP}/.spectral.yaml"],
    "redocly": [f"{BIN}/redocly", "lint", f"--config={TOP}/redocly.yaml"],
}
COMMANDS_31 = COMMANDS | {"spectral": [*SPECTRAL, f"{HERE}/spectral-3.1.yaml"]}

MISTAKES: dict[str, tuple[str, object]] = {
    "/paths/~1v1~1divide/get/operationId": ("operation-operationId-unique", "get_health"),
    "/paths/~1v1~1divide/get/parameters/0/example": ("oas3-valid-media-example", "ten"),
    "/components/examples/WrongCredentials/value/status": ("oas3-valid-media-example", "401"),
    "/components/headers/Retry-After/example": ("oas3-valid-media-example", "soon"),
    "/components/schemas/Credentials/example/email": ("oas3-valid-schema-example", 1),
    "/components/schemas/PersonName": ("owasp:api4:2023-string-limit", {"type": "string"}),
    "/components/schemas/AccessToken/properties/expires_in/example": (
        "oas3-valid-schema-example",
        "soon",
    ),
}
"""Rules of Spectral, and values that break them in the places."""
BROKEN = ("/health", "/v1/auth/token", "/v1/divide", "/v1/products")
"""The paths of the contracts in which a linter has to find something."""

Lint: TypeAlias = Callable[[list[str], bytes], "subprocess.CompletedProcess[str]"]


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - the commands are those above.
        command,
        cwd=HERE,
        env=os.environ | QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=270,
    )


def served_contract() -> Document:
    return our_document().served_at("https://concord.example")


def give_up(reason: str) -> None:
    """Say why the linters do not run here; where every check must run, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def part_of_contract() -> SchemaNode:
    """Return a contract with a few paths, which are enough to break and quick to lint."""
    whole = served_contract().public
    return {**whole, "paths": {path: whole["paths"][path] for path in BROKEN}}


@pytest.fixture(scope="module")
def lint(tmp_path_factory: pytest.TempPathFactory) -> Lint:
    """Run a linter on a document, after installing both if what is there is not what is locked."""
    npm = shutil.which("npm")
    if npm is None:
        give_up("Spectral and Redocly did not run: Node.js with npm is not installed")
    installed, locked = HERE / "node_modules/.package-lock.json", HERE / "package-lock.json"
    if npm and (not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime):
        installation = run(npm, "ci")
        if installation.returncode != 0:
            give_up(f"Spectral and Redocly could not be installed: {installation.stdout}")

    def lint(command: list[str], document: bytes) -> "subprocess.CompletedProcess[str]":
        file = tmp_path_factory.mktemp("contract") / "openapi.yaml"
        file.write_bytes(document)
        return run(*command, str(file))

    return lint


@pytest.mark.node
@pytest.mark.timeout(300)
@pytest.mark.parametrize("linter", COMMANDS)
def test_the_linter_finds_nothing(lint: Lint, linter: str) -> None:
    result = lint(COMMANDS[linter], served_contract().yaml)
    assert result.returncode == 0, result.stdout


@pytest.mark.node
@pytest.mark.mission("M34")
@pytest.mark.parametrize("linter", COMMANDS_31)
def test_the_linter_finds_nothing_in_the_3_1_document(lint: Lint, linter: str) -> None:
    result = lint(COMMANDS_31[linter], served_contract().json_31)
    assert result.returncode == 0, result.stdout


@pytest.mark.node
@pytest.mark.usefixtures("lint")
def test_ordinary_tools_open_the_source() -> None:
    """The source lacks what is added to it, and is a valid document all the same."""
    result = run(f"{BIN}/redocly", "lint", "--extends=spec", f"{TOP}/openapi/openapi.yaml")
    assert result.returncode == 0, result.stdout


@pytest.mark.node
@pytest.mark.parametrize(
    ("text", "other", "rule"),
    [
        (
            "operationId: divide",
            "operationId: get_health",
            "operation-operationId-unique",
        ),
        ("example: 3600", "example: soon", "no-invalid-schema-examples"),
    ],
)
def test_redocly_finds_a_broken_contract(lint: Lint, text: str, other: str, rule: str) -> None:
    document = yaml.safe_dump(part_of_contract(), sort_keys=False, allow_unicode=True)
    assert text in document
    result = lint(COMMANDS["redocly"], document.replace(text, other).encode())
    assert result.returncode != 0
    assert rule in result.stdout


@pytest.mark.node
def test_spectral_finds_mistakes_wherever_they_are(lint: Lint) -> None:
    """All in one run. `examples-once.mjs` makes Spectral look at each example once."""
    document = part_of_contract()
    for place, (_, value) in MISTAKES.items():
        document = broken(document, {"op": "add", "path": place, "value": value})
    result = lint(COMMANDS["spectral"], json.dumps(document).encode())
    found = Counter(re.findall(r" error +(\S+)", result.stdout))
    assert found >= Counter(rule for rule, _ in MISTAKES.values()), result.stdout
