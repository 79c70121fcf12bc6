"""Spectral, with OWASP's rules, and Redocly find nothing in the contract as clients get it.

Both run without a network. They come from npm, pinned in `package.json` and `package-lock.json`
beside this file, and are installed when they are first needed. `.spectral.yaml` and `redocly.yaml`
give the reason for each rule that is off.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from api.contract.document import load_document

HERE = Path(__file__).parent
TOP = HERE.parents[1]
BIN = HERE / "node_modules" / ".bin"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}
COMMANDS = {
    "spectral": [f"{BIN}/spectral", "lint", "--fail-severity=hint", "-r", f"{TOP}/.spectral.yaml"],
    "redocly": [f"{BIN}/redocly", "lint", f"--config={TOP}/redocly.yaml"],
}

Lint: TypeAlias = Callable[[str, bytes], "subprocess.CompletedProcess[str]"]


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - the commands are those above.
        command,
        cwd=HERE,
        env=os.environ | QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=150,
    )


def give_up(reason: str) -> None:
    """Say why the linters do not run here; where every check must run, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


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

    def lint(linter: str, document: bytes) -> "subprocess.CompletedProcess[str]":
        file = tmp_path_factory.mktemp("contract") / "openapi.yaml"
        file.write_bytes(document)
        return run(*COMMANDS[linter], str(file))

    return lint


@pytest.mark.node
@pytest.mark.parametrize("linter", COMMANDS)
def test_the_linter_finds_nothing(lint: Lint, linter: str) -> None:
    result = lint(linter, load_document(TOP / "openapi").yaml)
    assert result.returncode == 0, result.stdout


@pytest.mark.node
@pytest.mark.parametrize(
    ("linter", "text", "other", "rule"),
    [
        ("spectral", "maxLength: 200", "minLength: 2", "owasp:api4:2023-string-limit"),
        (
            "spectral",
            "operationId: divide",
            "operationId: get_health",
            "operation-operationId-unique",
        ),
        (
            "redocly",
            "operationId: divide",
            "operationId: get_health",
            "operation-operationId-unique",
        ),
        ("redocly", "example: 3600", "example: soon", "no-invalid-schema-examples"),
    ],
)
def test_the_linter_finds_a_broken_contract(
    lint: Lint, linter: str, text: str, other: str, rule: str
) -> None:
    document = load_document(TOP / "openapi").yaml.decode()
    assert text in document
    result = lint(linter, document.replace(text, other).encode())
    assert result.returncode != 0
    assert rule in result.stdout
