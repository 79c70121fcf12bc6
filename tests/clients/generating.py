"""Runs openapi-generator, the most used generator of clients, on the served contract."""

import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import yaml

from tests.clients.running import run

GENERATOR = Path(sys.executable).with_name("openapi-generator-cli")
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "go": {"packageName": "concord", "enumClassPrefix": "true", "withGoMod": "false"},
    "python": {"packageName": "concord_sdk"},
    "typescript-fetch": {"importFileExtension": ".js"},
}
"""The languages of which clients are made, with their options."""

_WITHOUT = dict.fromkeys(("apiDocs", "modelDocs", "apiTests", "modelTests"), "false")


def generate(contract: Path, folder: Path) -> None:
    """Validate a contract, and make clients without a warning, each in a folder of its language.

    One process makes them all, because Java takes seconds to start.
    """
    # Java compiles fast and not well, which takes half of the time of a program that soon ends.
    run_java = partial(run, cwd=folder, JAVA_OPTS="-XX:TieredStopAtLevel=1")
    validated = run_java((GENERATOR, "validate", "--recommend", "-i", contract))
    assert "No validation issues detected." in validated
    configurations = []
    for language, options in OPTIONS.items():
        configuration = {
            "generatorName": language,
            "inputSpec": str(contract),
            "outputDir": str(folder / language),
            "globalProperties": {"apis": "", "models": "", "supportingFiles": "", **_WITHOUT},
            "additionalProperties": dict(options),
        }
        configurations.append(folder / f"{language}.yaml")
        configurations[-1].write_text(yaml.safe_dump(configuration))
    printed = run_java((GENERATOR, "batch", "--fail-fast", *configurations))
    warnings = [line for line in printed.splitlines() if "WARN" in line or "ERROR" in line]
    assert warnings == []


def without_webhooks(types: str) -> str:
    """Return TypeScript types without those of webhooks, which only OpenAPI 3.1 has."""
    return re.sub(r"export (type|interface) webhooks .*?\n(?=export )", "", types, flags=re.DOTALL)
