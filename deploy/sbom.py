"""Prints the software bill of materials of a requirements file, as CycloneDX 1.6: `make sbom`.

It lists the locked packages for this platform, their licences and their dependencies.
"""

# ruff: noqa: INP001 - a script, which nothing imports.
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
_ENTRY = re.compile(r"(?m)^(\S.*?) \\\n((?: +\S.*\n?)+)")
_NEEDED_BY = re.compile(r"(?m)^ +#(?: via)? +(?!via$)([a-z0-9]\S*)")


def bill_of_materials(requirements: str) -> dict[str, object]:
    """Return the bill of materials of a requirements file that uv wrote."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    concord = {
        "type": "application",
        "bom-ref": project["name"],
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"expression": project["license"]}],
    }
    packages, needs = [], {concord["name"]: set[str]()}
    for package, needed_by in _packages(requirements):
        packages.append(package)
        for name in needed_by:
            needs.setdefault(name, set()).add(str(package["name"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {"component": concord},
        "components": packages,
        "dependencies": [
            {"ref": name, "dependsOn": sorted(needs.get(name, ()))}
            for name in (concord["name"], *(package["name"] for package in packages))
        ],
    }


def _packages(requirements: str) -> Iterator[tuple[Mapping[str, object], list[str]]]:
    """Yield the packages for this platform, each with the names of those that need it."""
    for line, details in _ENTRY.findall(requirements):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            name, [pin] = requirement.name, requirement.specifier
            package = {
                "type": "library",
                "bom-ref": name,
                "name": name,
                "version": pin.version,
                "purl": f"pkg:pypi/{name}@{pin.version}",
                "licenses": _licences(name),
            }
            yield package, _NEEDED_BY.findall(details)


def _licences(name: str) -> list[dict[str, object]]:
    """Return the licences that a package declares; none if it is not installed."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        return []
    if "License-Expression" in about:
        return [{"expression": about["License-Expression"]}]
    classifiers = [each.split(" :: ") for each in about.get_all("Classifier", [])]
    names = [parts[-1] for parts in classifiers if parts[0] == "License"]
    return [{"license": {"name": each}} for each in names or [about["License"]]]


if __name__ == "__main__":
    bill = bill_of_materials(Path(sys.argv[1]).read_text())
    sys.stdout.write(json.dumps(bill, indent=2) + "\n")
