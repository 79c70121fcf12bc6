"""Changes to a contract that break its clients: those that Redocly finds, and those it misses."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from api.contract.compile.schemas import SchemaNode
from tests.contract.walk import DeclaredOperation, operations, schemas


def find_breaks(diff: SchemaNode, base: SchemaNode, today: SchemaNode) -> list[str]:
    """Return a line for each break, from Redocly's report and both documents."""
    return sorted({*_redocly_breaks(diff), *_missed_breaks(base, today)})


def run_redocly(redocly: Path, base: Path, today: Path, report: Path) -> SchemaNode:
    """Compare two documents by Redocly's rules `diff-recommended`, its default."""
    arguments = ("diff", str(base), str(today), "--format=json", f"--output={report}")
    finished = subprocess.run(  # noqa: S603 - the command of this project.
        [str(redocly), *arguments, "--fail-on=none"],
        cwd=report.parent,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert report.exists(), finished.stdout + finished.stderr
    found: SchemaNode = json.loads(report.read_text())
    return found


def faults(breaks: Iterable[str], listed: Mapping[str, str], was: str, now: str) -> Iterator[str]:
    """Yield what is wrong with the list of breaks since a version `was`, in a version `now`."""
    for change in sorted(set(breaks) - set(listed)):
        yield f"breaks clients and is not listed: {json.dumps(change)}"
    for change in sorted(set(listed) - set(breaks)):
        yield f"is listed and breaks nothing: {json.dumps(change)}"
    yield from (f"has no reason: {change}" for change, why in listed.items() if not why.strip())
    if listed and not _allows_breaks(was, now):
        yield f"the version {now} must be raised, because {was} was released without these breaks"


def _allows_breaks(was: str, now: str) -> bool:
    """Whether a version may break what another promised (Semantic Versioning 2.0, 4 and 8)."""
    old, new = ([int(part) for part in version.split(".")] for version in (was, now))
    digits = 1 if old[0] else 2
    return new[:digits] > old[:digits]


def _redocly_breaks(diff: SchemaNode) -> Iterator[str]:
    for change in diff["changes"]:
        place = _readable((change.get("base") or change["revision"])["pointer"])
        for verdict in change["verdicts"]:
            if verdict["impact"] != "major":
                continue
            if verdict["ruleId"].startswith("enum-values-") and "value" in change["revision"]:
                old, new = (set(change[side]["value"]) for side in ("base", "revision"))
                yield from (f"{place}: gained the value {value}" for value in new - old)
                yield from (f"{place}: lost the value {value}" for value in old - new)
            else:
                yield f"{place}: {verdict['message']}"


def _readable(pointer: str) -> str:
    """Name the operation, path or component that a JSON Pointer leads to or into."""
    keys = [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
    match keys:
        case ["paths", path, "get" | "put" | "post" | "delete" | "patch" as method, *_]:
            return f"{method.upper()} {path}"
        case ["paths", path, *_]:
            return path
        case ["components", kind, name, *_]:
            return f"{kind}/{name}"
    return "/".join(keys[:2])


def _missed_breaks(base: SchemaNode, today: SchemaNode) -> Iterator[str]:
    """Find what the contract's own extensions now ask for, and headers that may now be missing."""
    after = {operation.place: operation.node for operation in operations(today)}
    for operation in operations(base):
        place, old, new = operation.place, operation.node, after.get(operation.place, {})
        for scope in sorted(set(new.get("x-scopes", ())) - set(old.get("x-scopes", ()))):
            yield f"{place}: requires the scope {scope}"
        if lacking := _scopes_of_members(new, operation) - _scopes_of_members(old, operation):
            yield f"{place}: requires scopes for {', '.join(sorted(lacking))}"
        if new.get("x-requires-session", []) != old.get("x-requires-session", []) and new:
            yield f"{place}: x-requires-session changed"
    headers = today["components"].get("headers", {})
    for name, header in base["components"].get("headers", {}).items():
        if header.get("required") and not headers.get(name, header).get("required"):
            yield f"headers/{name}: may be missing"
    maps = dict(schemas(today))
    for place, schema in schemas(base):
        if schema.get("x-property-names") != maps.get(place, schema).get("x-property-names"):
            yield f"{place.removeprefix('components/')}: x-property-names changed"


def _scopes_of_members(node: SchemaNode, operation: DeclaredOperation) -> set[str]:
    """Name each member of the released body with each scope that it requires."""
    known = (operation.body or {}).get("properties", {})
    return {
        f"{name} {scope}"
        for each in node.get("x-requires-scopes", ())
        for name in each["when-given"]
        if name.removeprefix("#/") in known
        for scope in each["scopes"]
    }
