"""The package, built and installed into an environment that has only what Concord needs."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def run(*command: str, folder: Path = ROOT) -> bytes:
    """Run a command with nothing of this project on Python's path, and return what it printed."""
    finished = subprocess.run(  # noqa: S603 - our own interpreter and package.
        command, cwd=folder, capture_output=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this project."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, prefix: Path, python: str = sys.executable) -> str:
    """Install the wheel and the locked dependencies into a new prefix; return its command.

    The dependencies are copies of those that the tests run with, because tests use no network.
    """
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", "--python", python, str(prefix))
    python = str(prefix / "bin" / "python")
    pip = (*uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--compile-bytecode")
    run(*pip, "--python", python, str(wheel))
    [packages] = prefix.glob("lib/python*/site-packages")
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        if "==" in line:
            _copy(Requirement(line.removesuffix("\\")), packages)
    return str(prefix / "bin" / "concord")


def _copy(requirement: Requirement, packages: Path) -> None:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return
    for file in distribution(requirement.name).files or ():
        # Commands are outside the folder of the packages.
        if ".." not in file.parts:
            place = packages / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file.locate(), place)
