"""README.md does what it says: its tour runs against a fresh service, and its tables are complete.

A test that fails because a table is out of date shows the rows as they should be.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.contract.document import load_document
from api.settings import Settings
from api.signing import KeyRing
from app import cli
from tests.live import running_server
from tests.tools import find_tool

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
TOUR_SECONDS = 120.0
TOUR_URL = "http://127.0.0.1:8080"
TOUR_STATUSES = {200, 201, 304, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429}
ANYTHING = "…"
# A line that no command prints, between the output of one block and that of the next.
BORDER = "==== end of block ===="
REQUIRED_IN_PRODUCTION = {
    "DATABASE_URL": "postgresql://database.example/concord",
    "SIGNING_KEY_FILE": "signing-key.pem",
}
# What the defaults of these are made of; their values differ from machine to machine.
DEFAULTS_IN_WORDS = {
    "hashing_threads": "the number of processor cores",
    "mail_from": "`concord@` and the host of `PUBLIC_URL`",
    "public_url": "`http://HOST:PORT`",
}


@dataclass(frozen=True)
class Step:
    """Commands of the tour and what README.md says that they print, if it says so."""

    commands: str
    printed: str | None


def section(title: str) -> str:
    """The text under a heading of the second level."""
    found = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README)
    assert found, f"README.md has no section {title}"
    return found[1]


def tour() -> list[Step]:
    """The steps of the tour: a block of shell, and the block of text that may follow it."""
    blocks = re.findall(
        r"(?ms)^```sh\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?",
        section("A tour of five minutes"),
    )
    return [Step(commands, printed or None) for commands, printed in blocks]


def rows(title: str) -> list[str]:
    """The rows of the one table in a section, without its head."""
    return [line for line in section(title).splitlines() if line.startswith("|")][2:]


def follow_tour(
    steps: list[Step], url: str, folder: Path, environment: dict[str, str]
) -> list[str]:
    """What each step prints when one shell runs them all against the service at `url`.

    What the service keeps under `var` is in the folder that it was started in.
    """
    script = f"\necho '{BORDER}'\n".join(step.commands for step in steps)
    script = script.replace(TOUR_URL, url).replace(".venv/bin/python", sys.executable)
    script = script.replace("var/mail", f"{folder}/var/mail")
    finished = subprocess.run(  # noqa: S603 - the script is README.md's.
        [find_tool("bash"), "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=TOUR_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr.decode()
    printed = finished.stdout.decode().replace("\r\n", "\n").replace(url, TOUR_URL)
    return [part.strip("\n") for part in printed.split(BORDER)]


def as_pattern(expected: str) -> re.Pattern[str]:
    """A pattern for an output in which `…` stands for anything, line breaks included."""
    parts = (re.escape(part) for part in expected.strip("\n").split(ANYTHING))
    return re.compile(".*?".join(parts), re.DOTALL)


@pytest.mark.mission("M1", "M8", "M11", "M12", "M13", "M16", "M18")
def test_the_tour_prints_what_it_says(tmp_path: Path) -> None:
    find_tool("curl")
    steps = tour()
    with running_server(tmp_path, METRICS_PORT="0") as server:
        database = {"DATABASE_URL": server.environment["DATABASE_URL"]}
        printed = follow_tour(steps, server.url, tmp_path, database)
    for step, output in zip(steps, printed, strict=True):
        expected = step.printed or ""
        assert as_pattern(expected).fullmatch(output), (
            f"{step.commands}\nprinted\n\n{output}\n\nand README.md says\n\n{expected}"
        )


def test_the_tour_shows_every_kind_of_answer() -> None:
    printed = "\n".join(step.printed or "" for step in tour())
    shown = re.findall(r'^HTTP/1\.1 (\d{3})|^(\d{3}) |"status":(\d{3})', printed, re.MULTILINE)
    assert {int(status) for found in shown for status in found if status} >= TOUR_STATUSES
    assert '{"result":5.0}' in printed


def operation_rows() -> Iterator[str]:
    """A row for each operation of the contract, in the contract's order."""
    for path, item in load_document(ROOT / "openapi").public["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict) and "operationId" in operation:
                scopes = [
                    scope
                    for requirement in operation["security"]
                    for scope in requirement.get("bearer", ())
                ]
                name, summary = operation["operationId"], operation["summary"]
                scope = " ".join(f"`{scope}`" for scope in scopes)
                if scopes and {} in operation["security"]:
                    scope += " or none"
                yield f"| `{method.upper()} {path}` | `{name}` | {scope} | {summary} |"


@pytest.mark.mission("M27")
def test_the_operations_are_those_of_the_contract() -> None:
    assert rows("Operations") == list(operation_rows())


def command_rows() -> Iterator[str]:
    """A row for each command of the command line, with the first paragraph of its help."""
    for name, command in cli.commands.items():
        options = "".join(f" {option.opts[0]}" for option in command.params if option.required)
        yield f"| `{name}{options}` | {(command.help or '').splitlines()[0]} |"


def test_the_commands_are_those_of_the_command_line() -> None:
    assert rows("Commands") == list(command_rows())


def as_default(name: str, settings: Settings) -> str:
    """A default as the table shows it."""
    value = getattr(settings, name)
    if name in DEFAULTS_IN_WORDS:
        return DEFAULTS_IN_WORDS[name]
    if value is None or value == ():
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def setting_rows() -> Iterator[str]:
    """A row for each setting: its defaults come from `Settings` itself."""
    development = Settings.from_environment({})
    production = Settings.from_environment({"APP_ENV": "production", **REQUIRED_IN_PRODUCTION})
    for name, field in Settings.model_fields.items():
        default, there = as_default(name, development), as_default(name, production)
        if name.upper() in REQUIRED_IN_PRODUCTION:
            there = "must be set"
        elif name == "app_env" or there == default:
            there = ""
        yield f"| `{name.upper()}` | {default} | {there} | {field.description} |"


@pytest.mark.mission("M19")
def test_the_settings_are_those_that_are_read() -> None:
    assert rows("Settings") == list(setting_rows())


@pytest.mark.mission("M19")
def test_production_needs_what_the_readme_sets() -> None:
    exported = dict(re.findall(r"^export (\w+)=(.+)$", section("In production"), re.MULTILINE))
    settings = Settings.from_environment(exported)
    assert settings.app_env == "production"
    assert exported.keys() >= REQUIRED_IN_PRODUCTION.keys()


@pytest.mark.mission("M19")
def test_the_signing_key_of_the_readme_is_one(tmp_path: Path) -> None:
    find_tool("openssl")
    found = re.search(r"(?m)^\(umask 077; openssl .+\)$", section("In production"))
    assert found
    subprocess.run([find_tool("bash"), "-ec", found[0]], cwd=tmp_path, check=True)  # noqa: S603 - README.md's.
    key = tmp_path / "signing-key.pem"
    assert key.stat().st_mode & 0o077 == 0
    assert KeyRing.load(key, create=False).signing.id


def test_every_file_that_the_readme_names_exists() -> None:
    linked = re.findall(r"\]\((?!http)([^)]+)\)", README)
    places = re.findall(r"^\| `([\w/.]+)` \|", section("Where things live"), re.MULTILINE)
    assert places
    assert [name for name in (*linked, *places) if not (ROOT / name).exists()] == []
