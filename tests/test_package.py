"""The package, installed into an environment that has nothing else of Concord."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pytest

from api.server.settings import Settings
from app import load
from tests.live import running_program

ROOT = Path(__file__).parents[1]
PARTS = ("api", "docs", "models", "openapi")

pytestmark = pytest.mark.mission("M32")


def run(*command: str, folder: Path = ROOT) -> bytes:
    """Run a command with nothing of this project on Python's path, and return what it printed."""
    finished = subprocess.run(  # noqa: S603 - our own interpreter and package.
        command, cwd=folder, capture_output=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def concord(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of the package, installed without the project beside it."""
    place = tmp_path_factory.mktemp("installed") / "environment"
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", "--python", sys.executable, str(place))
    python = place / "bin" / "python"
    install = ("pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(python))
    run(*uv, *install, str(wheel))
    # What Concord depends on is what the tests have already installed.
    [packages] = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return str(place / "bin" / "concord")


def test_the_wheel_contains_the_code_the_contract_and_the_guides(wheel: Path) -> None:
    needed = {
        f"concord/{file.relative_to(ROOT)}"
        for part in PARTS
        for file in (ROOT / part).rglob("*")
        if file.is_file() and file.parent.name != "__pycache__"
    }
    own = {f"concord/{name}.py" for name in ("__init__", "__main__", "app")}
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == needed | own


def test_the_installed_command_prints_the_same_contract(concord: str, tmp_path: Path) -> None:
    own = load().document.served_at(Settings().public_url)
    assert run(concord, "openapi", folder=tmp_path) == own.yaml


def test_an_installed_service_migrates_and_serves_from_workers(
    concord: str, tmp_path: Path
) -> None:
    settings = {"WORKERS": "2", "METRICS_PORT": "0"}
    with running_program([concord], tmp_path, settings) as server:
        for path in ("/health/ready", "/docs", "/docs/guides/tour", "/problems/not-found"):
            with urlopen(f"{server.url}{path}", timeout=10) as answer:  # noqa: S310 - our own.
                assert answer.status == 200
