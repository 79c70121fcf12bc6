"""A TypeScript client generated from the served contract is typed and works (MISSION M27)."""

import shutil
from pathlib import Path

import pytest

from tests.clients.conftest import ADMIN
from tests.clients.running import run
from tests.live import LiveServer
from tests.tools import find_tool, without

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"


@pytest.mark.node
@pytest.mark.mission("M27")
def test_a_generated_typescript_client_passes_strict_tsc_and_takes_the_tour(
    server: LiveServer, contract: Path, tmp_path: Path
) -> None:
    node = find_tool("node", "nodejs")
    if not (PACKAGES / ".package-lock.json").exists():
        without("the packages in tests/clients/package.json are not installed: run `make test`")
    for name in ("package.json", "tsconfig.json", "tour.ts"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    generator = PACKAGES / "openapi-typescript" / "bin" / "cli.js"
    run((node, generator, contract, "--output", "schema.ts"), cwd=tmp_path)
    run((node, PACKAGES / "typescript" / "bin" / "tsc", "--project", "."), cwd=tmp_path)
    printed = run((node, "tour.js", server.url), cwd=tmp_path, **ADMIN)
    assert printed == "The tour is done.\n"
