"""Commands run as an operator runs them: in a folder, with only the given environment."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import CliRunner, Result

from api.server.commands import cli
from api.server.settings import Settings
from app import PROGRAM
from tests.live import INHERITED

PASSWORD = "grey owls count at night"
ADMIN = ("create-admin", "--email", "grace@concord.example", "--name", "Grace Hopper")
Run: TypeAlias = Callable[..., Result]
"""Runs a command with settings by name."""


def make_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give what runs a command in a folder, with no settings but those of the test."""
    monkeypatch.chdir(folder)
    for name in [*Settings.model_fields, "admin_password"]:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)

    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(cli, arguments, env=environment, obj=PROGRAM)

    return run


def failure(result: Result) -> list[str]:
    """The lines of an error, each of them for the person who ran the command."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith("concord: ") and len(line) < 400 for line in lines), lines
    return [line.removeprefix("concord: ") for line in lines]


def inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}
