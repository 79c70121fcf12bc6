"""Packages that Concord needs are locked by hash, and their licences are known (TRUST 45)."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.txt"))
ACCEPTED = {
    *("Apache Software License", "Apache-2.0", "MIT", "MIT License", "MIT-0", "MIT-CMU", "ISC"),
    *("BSD License", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License", "PSF-2.0"),
    *("Public Domain", "The Unlicense (Unlicense)"),
    # Their conditions concern changes of the packages themselves, which Concord does not make.
    *("LGPL-3.0-only", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"),
}


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    command = [sys.executable, "deploy/sbom.py", "requirements-all.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter and file.
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_is_locked_by_hash(lock: str) -> None:
    entries = re.split(r"(?m)^(?=\S)", (ROOT / lock).read_text())
    packages = [entry for entry in entries if entry and not entry.startswith("#")]
    assert len(packages) > 5
    for package in packages:
        assert re.match(r"[a-z0-9.-]+==\S+ .*\\\n +--hash=sha256:[0-9a-f]{64}\b", package), package


def test_nobody_is_told_to_install_the_package_of_this_name_from_pypi() -> None:
    """Concord is not published there, so that package is not ours."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("api/**/*.py")]
    assert len(files) > 50
    for file in files:
        if file.name != "CHANGELOG.md":
            assert not re.search(r"install concord\b", file.read_text()), file


def test_each_node_package_is_locked_by_hash() -> None:
    for lock in ROOT.glob("tests/**/package-lock.json"):
        if "node_modules" not in lock.parts:
            packages = json.loads(lock.read_text())["packages"]
            assert all("integrity" in package for name, package in packages.items() if name), lock


def test_each_licence_is_accepted(bill: dict[str, Any]) -> None:
    for package in bill["components"]:
        names = set()
        for licence in package["licenses"]:
            text = licence.get("expression") or licence["license"]["name"]
            # In some names of classifiers, a short form follows in brackets.
            parts = [text] if text in ACCEPTED else re.split(r" AND | OR |[()]+", text)
            names |= {part for part in parts if part}
        assert names, package
        assert names <= ACCEPTED, package


def test_the_bill_of_materials_has_each_package(bill: dict[str, Any]) -> None:
    packages = {package["name"]: package for package in bill["components"]}
    assert {"sqlalchemy", "connexion", "celery", "opentelemetry-sdk"} <= set(packages)
    for name, package in packages.items():
        assert package["version"] == version(name)
        assert package["purl"] == f"pkg:pypi/{name}@{package['version']}"
    needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    assert set(needs) == {"concord", *packages}
    found, new = set(), {"concord"}
    while new:
        found |= new
        new = {name for each in new for name in needs[each]} - found
    assert found == set(needs)
