"""The documentation is true: its tours run, its generated parts are current, its links lead on."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.credentials.signing import KeyRing
from api.server.settings import Settings
from tests.generate_docs import EXAMPLE, PAGES, REQUIRED_IN_PRODUCTION, generate
from tests.live import running_server
from tests.tools import find_tool

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TOUR = ROOT / "docs" / "tour.md"
OPERATING = ROOT / "docs" / "operating.md"
LINKED = (*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md")
TOUR_SECONDS = 120.0
TOUR_URL = "http://127.0.0.1:8080"
TOUR_STATUSES = {200, 201, 304, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429}
README_LINES = 150
ANYTHING = "…"
# A line that no command prints, between the output of one block and that of the next.
BORDER = "==== end of block ===="


@dataclass(frozen=True)
class Step:
    """Commands of a tour, and the output that the page promises, if it promises one."""

    commands: str
    printed: str | None


def tour(page: Path) -> list[Step]:
    """The steps of a tour: a block of shell, and the block of text that may follow it."""
    blocks = re.findall(
        r"(?ms)^```sh\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", page.read_text("utf-8")
    )
    return [Step(commands, printed or None) for commands, printed in blocks]


def follow_tour(
    steps: list[Step], url: str, folder: Path, environment: dict[str, str]
) -> list[str]:
    """Run all steps in one shell against the service at `url`, and return the output of each.

    `folder` is the one that the service was started in, where its `var` is.
    """
    script = f"\necho '{BORDER}'\n".join(step.commands for step in steps)
    script = script.replace(TOUR_URL, url).replace(".venv/bin/python", sys.executable)
    script = script.replace("var/mail", f"{folder}/var/mail")
    finished = subprocess.run(  # noqa: S603 - the script is that of the page.
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
    """A pattern for an output in which `…` stands for any text, including line breaks."""
    parts = (re.escape(part) for part in expected.strip("\n").split(ANYTHING))
    return re.compile(".*?".join(parts), re.DOTALL)


@pytest.mark.mission("M1", "M8", "M11", "M12", "M13", "M16", "M18")
@pytest.mark.parametrize("page", [README, TOUR], ids=lambda page: page.stem)
def test_a_tour_prints_the_documented_output(page: Path, tmp_path: Path) -> None:
    find_tool("curl")
    steps = tour(page)
    assert steps
    with running_server(tmp_path, METRICS_PORT="0") as server:
        database = {"DATABASE_URL": server.environment["DATABASE_URL"]}
        printed = follow_tour(steps, server.url, tmp_path, database)
    for step, output in zip(steps, printed, strict=True):
        expected = step.printed or ""
        assert as_pattern(expected).fullmatch(output), (
            f"{step.commands}\nprinted\n\n{output}\n\nand {page.name} says\n\n{expected}"
        )


def test_the_tour_shows_every_kind_of_status() -> None:
    printed = "\n".join(step.printed or "" for step in tour(TOUR))
    shown = re.findall(r'^HTTP/1\.1 (\d{3})|^(\d{3}) |"status":(\d{3})', printed, re.MULTILINE)
    assert {int(status) for found in shown for status in found if status} >= TOUR_STATUSES
    assert '{"result":5.0}' in printed


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= README_LINES


def test_each_release_says_how_to_upgrade_before_anything_else() -> None:
    releases = re.split(r"(?m)^## \[", (ROOT / "CHANGELOG.md").read_text("utf-8"))[1:]
    assert releases
    for release in releases:
        assert re.match(r"[^\n]*\n\n### Upgrading\n\n\S", release), release[:60]


@pytest.mark.mission("M19", "M27")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_generated_parts_are_up_to_date(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == generate(text), "run `make docs`"


@pytest.mark.parametrize(
    ("page", "part"),
    [
        (OPERATING, "settings"),
        (OPERATING, "commands"),
        (ROOT / "docs" / "orders.md", "order-states"),
        (ROOT / "CONTRIBUTING.md", "edits"),
    ],
)
def test_a_manual_change_of_a_generated_part_is_reverted(page: Path, part: str) -> None:
    text = page.read_text("utf-8")
    begin, end = f"<!-- {part} -->\n", f"<!-- /{part} -->"
    assert text.count(begin) == text.count(end) == 1
    changed = text.replace(end, f"A line by hand.\n{end}")
    assert generate(changed) == text


@pytest.mark.mission("M19")
def test_the_documented_production_settings_are_valid() -> None:
    exported = dict(re.findall(r"(?m)^export (\w+)=(.+)$", OPERATING.read_text("utf-8")))
    settings = Settings.from_environment(exported)
    assert settings.app_env == "production"
    assert exported.keys() >= REQUIRED_IN_PRODUCTION.keys()


@pytest.mark.mission("M19")
def test_the_documented_command_creates_a_signing_key(tmp_path: Path) -> None:
    find_tool("openssl")
    found = re.search(r"(?m)^\(umask 077; openssl .+\)$", OPERATING.read_text("utf-8"))
    assert found
    command = [find_tool("bash"), "-ec", found[0]]
    subprocess.run(command, cwd=tmp_path, check=True)  # noqa: S603 - the command of the page.
    key = tmp_path / "signing-key.pem"
    assert key.stat().st_mode & 0o077 == 0
    assert KeyRing.load(key, create=False).signing.id


def prose(page: Path) -> str:
    """The text of a page without blocks of code."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that code hosts give to the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def broken_links(page: Path) -> Iterator[str]:
    """The links of a page whose file or heading does not exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two` three\n[a](#one-two-three) [b](#one) [c](no.md) [d](page.md#x)\n")
    assert list(broken_links(page)) == ["#one", "no.md", "page.md#x"]


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", prose(README))}
    assert [page.name for page in LINKED if page != README and page not in linked] == []


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_every_named_file_exists(page: Path) -> None:
    # New files of the worked example exist where it is applied.
    named = re.findall(r"`((?:api|docs|models|openapi|tests)/[^`<>\s]*|app\.py)`", prose(page))
    places = (ROOT, EXAMPLE)
    assert [name for name in named if not any((place / name).exists() for place in places)] == []
