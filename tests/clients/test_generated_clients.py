"""Clients generated from the served contract have strict types and work (MISSION M27, M34)."""

import ast
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.conftest import ADMIN
from tests.clients.generating import without_webhooks
from tests.clients.running import run
from tests.live import LiveServer
from tests.tools import find_tool, without

pytestmark = [
    pytest.mark.mission("M27"),
    pytest.mark.mission("M34"),
    # The first build compiles Go's standard library.
    pytest.mark.timeout(600),
]

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PACKAGES = HERE / "node_modules"
TYPESCRIPT = PACKAGES / "typescript" / "bin" / "tsc"
COMPILED = Path(__file__).parents[2] / "var" / "cache" / "go"
"""What Go keeps of earlier builds, its standard library above all."""
SCRIPTS = ("tour.py", "answers.py", "shopping.py", "generator_tour.py")
ADDRESSES = {"python": 1, "typescript": 2, "go": 3, "generator": 4, "fetch": 5}


def take_tour(
    server: LiveServer, name: str, command: Sequence[str | Path], *, cwd: Path, **environment: str
) -> None:
    """Run a tour, which comes from an address of its own."""
    address = {"CLIENT_ADDRESS": f"192.0.2.{ADDRESSES[name]}"}
    printed = run((*command, server.url), cwd=cwd, **ADMIN, **address, **environment)
    assert printed == "The tour is done.\n"


def generate_python(contract: Path, client: Path) -> None:
    # A part of the contract that the generator cannot use is a warning, and here a failure.
    options = ("--meta", "none", "--config", HERE / "openapi-python-client.yaml")
    files = ("--path", contract, "--output-path", client)
    generator = BIN / "openapi-python-client"
    run((generator, "generate", *files, *options, "--fail-on-warning"), cwd=client.parent)


def code(client: Path) -> dict[Path, str]:
    """Return the code of a Python client without its documentation."""
    found = {}
    for file in client.rglob("*.py"):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                is_described = ast.get_docstring(node) is not None
                node.body = node.body[1:] if is_described else node.body
        found[file.relative_to(client)] = ast.dump(tree)
    return found


@pytest.fixture(scope="module")
def python_clients(
    contract: Path, generated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with both Python clients, whose types and those of the tours are checked."""
    folder = tmp_path_factory.mktemp("python")
    generate_python(contract, folder / "concord_client")
    shutil.copytree(generated / "python" / "concord_sdk", folder / "concord_sdk")
    run(
        (
            *(sys.executable, "-m", "mypy", f"--config-file={HERE / 'mypy.ini'}"),
            *("--cache-dir=cache", "concord_client", "concord_sdk"),
            *(HERE / script for script in SCRIPTS),
        ),
        cwd=folder,
        MYPYPATH=".",
    )
    return folder


@pytest.mark.parametrize(("name", "script"), [("python", "tour.py"), ("generator", SCRIPTS[-1])])
def test_python_clients_take_the_tour(
    server: LiveServer, python_clients: Path, name: str, script: str
) -> None:
    command = (sys.executable, HERE / script)
    take_tour(server, name, command, cwd=python_clients, PYTHONPATH=".")


def test_the_newer_contract_makes_the_same_python_client(
    python_clients: Path, newer: Path, tmp_path: Path
) -> None:
    generate_python(newer, tmp_path / "concord_client")
    assert code(tmp_path / "concord_client") == code(python_clients / "concord_client")


@pytest.mark.node
def test_typescript_clients_take_the_tour(
    server: LiveServer, contract: Path, newer: Path, generated: Path, tmp_path: Path
) -> None:
    node = find_tool("node", "nodejs")
    if not (PACKAGES / ".package-lock.json").exists():
        without("the packages in tests/clients/package.json are not installed: run `make test`")
    for file in (*HERE.glob("*.ts"), *HERE.glob("tsconfig*.json"), HERE / "package.json"):
        shutil.copy(file, tmp_path)
    shutil.copytree(generated / "typescript-fetch", tmp_path / "sdk")
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    generator = PACKAGES / "openapi-typescript" / "bin" / "cli.js"
    for document, types in ((contract, "schema.ts"), (newer, "newer.ts")):
        run((node, generator, document, "--output", types), cwd=tmp_path)
    newer_types, types = ((tmp_path / name).read_text() for name in ("newer.ts", "schema.ts"))
    assert without_webhooks(newer_types) == without_webhooks(types)
    for project, name, script in (
        ("tsconfig.json", "typescript", "tour.js"),
        ("tsconfig.fetch.json", "fetch", "fetch_tour.js"),
    ):
        run((node, TYPESCRIPT, "--project", project), cwd=tmp_path)
        take_tour(server, name, (node, script), cwd=tmp_path)


def test_the_go_client_passes_vet_and_takes_the_tour(
    server: LiveServer, generated: Path, tmp_path: Path
) -> None:
    for file in (HERE / "go").iterdir():
        shutil.copy(file, tmp_path)
    shutil.copytree(generated / "go", tmp_path / "concord")
    offline = {"GOCACHE": str(COMPILED), "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    # Without C and inlining, the standard library is compiled in two thirds of the time.
    quick = {"CGO_ENABLED": "0", "GOFLAGS": "-gcflags=all=-l"}
    run((BIN / "go", "build", "-o", "tour", "."), cwd=tmp_path, **offline, **quick)
    run((BIN / "go", "vet", "./..."), cwd=tmp_path, **offline, **quick)
    take_tour(server, "go", (tmp_path / "tour",), cwd=tmp_path)
