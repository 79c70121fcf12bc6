"""The package, installed into an environment that has nothing else of Concord."""

from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pytest

from api.server.settings import Settings
from app import load
from tests.installed import ROOT, build_wheel, install, run
from tests.live import running_program

PARTS = ("api", "docs", "models", "openapi")

pytestmark = pytest.mark.mission("M32")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def concord(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of the package, installed without the project beside it."""
    return install(wheel, tmp_path_factory.mktemp("installed") / "environment")


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
