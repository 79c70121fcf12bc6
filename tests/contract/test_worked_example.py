"""The worked example of CONTRIBUTING.md works: applied to a copy of the repository, it passes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from models.storage.schema_version import newest_version
from tests.tools import find_tool

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).with_name("worked_example")
NEW_FILES = [file for file in sorted(EXAMPLE.rglob("*.*")) if file.parent != EXAMPLE]
TYPED = [
    str(file.relative_to(EXAMPLE))
    for file in NEW_FILES
    if file.suffix == ".py" and "migrations" not in file.parts
]
EDITS = yaml.safe_load((EXAMPLE / "edits.yaml").read_text("utf-8"))
MOST_FILES = 8
MOST_LINES = 200
WHOLE = (
    "tests/api/shop/test_wishes.py",
    "tests/api/identity/test_erasure.py::test_erasure_leaves_nothing_personal_in_any_table",
    "tests/test_dependencies.py",
    "tests/contract/lint/test_lint.py::test_the_contract_keeps_the_rule",
    "tests/contract/lint/test_lint.py::test_files_are_named_for_their_content",
    "tests/models/identity/test_erasure_declared.py",
    "tests/models/storage/test_migrating.py::test_models_and_migrations_agree",
    "tests/test_docs.py::test_the_generated_parts_are_up_to_date",
)
BY_OPERATION = (
    "tests/api/document/test_permissions.py",
    "tests/api/document/test_declared_statuses.py",
)
"""Shared tests that take each operation from the contract; its name is in theirs."""
CHOSEN = f"wish or not ({' or '.join(Path(file).stem for file in BY_OPERATION)})"
CHECKED_TYPES = "var/cache/mypy"
"""What mypy keeps of files that have not changed."""


def copy_repository(target: Path) -> None:
    """Copy the files that git tracks or would track, and what is known of their types."""
    listed = subprocess.run(  # noqa: S603 - git, found on the PATH.
        [find_tool("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    if (ROOT / CHECKED_TYPES).exists():
        shutil.copytree(ROOT / CHECKED_TYPES, target / CHECKED_TYPES)


def apply_example(target: Path) -> None:
    """Copy the new files, number the migration after the newest one, and insert the lines."""
    newest = newest_version()
    number = f"{int(newest) + 1:04}"
    for file in NEW_FILES:
        text = file.read_text("utf-8")
        name = re.sub(r"versions/\d+", f"versions/{number}", str(file.relative_to(EXAMPLE)))
        text = re.sub(r'(?m)^revision = ".*"$', f'revision = "{number}"', text)
        text = re.sub(r'(?m)^down_revision = ".*"$', f'down_revision = "{newest}"', text)
        assert not (target / name).exists(), f"{name} exists already"
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, "utf-8")
    for edit in EDITS:
        path = target / edit["file"]
        before, line, after = path.read_text("utf-8").partition(f"\n{edit['after']}\n")
        assert line, f"{edit['file']} has no lines {edit['after']!r}"
        path.write_text(before + line + edit["insert"] + after, "utf-8")


def run(target: Path, *arguments: str) -> None:
    """Run a Python module in the copy; what it prints is shown if it fails."""
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    finished = subprocess.run(  # noqa: S603 - our own interpreter.
        [sys.executable, "-m", *arguments],
        cwd=target,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout.decode()


@pytest.mark.mission("M27")
@pytest.mark.timeout(300)
def test_the_worked_example_passes_the_checks(tmp_path: Path) -> None:
    copy_repository(tmp_path)
    apply_example(tmp_path)
    run(tmp_path, "ruff", "check", "api", "models", "tests/api/shop/test_wishes.py")
    run(tmp_path, "ruff", "format", "--check", "api", "models", "tests/api/shop/test_wishes.py")
    run(tmp_path, "mypy", *TYPED)
    run(tmp_path, "pytest", "-n", "0", "-q", "-k", CHOSEN, *WHOLE, *BY_OPERATION)


@pytest.mark.mission("M27")
def test_the_worked_example_is_small() -> None:
    added = [file.read_text("utf-8") for file in NEW_FILES] + [edit["insert"] for edit in EDITS]
    assert len(NEW_FILES) + len({edit["file"] for edit in EDITS}) <= MOST_FILES
    assert sum(len(text.splitlines()) for text in added) <= MOST_LINES
