"""Runs the programs that make, check and use a client."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

SECONDS = 480.0
"""Enough for Go to compile its standard library on a busy machine."""


def run(arguments: Sequence[str | Path], *, cwd: Path, **environment: str) -> str:
    """Run a program that has to succeed and return what it printed."""
    finished = subprocess.run(  # noqa: S603 - the programs are those of the tests.
        arguments,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=SECONDS,
    )
    printed = finished.stdout.decode()
    assert finished.returncode == 0, f"{arguments[0]} ended with {finished.returncode}:\n{printed}"
    return printed
