"""A Python client generated from the served contract is typed, complete and works (MISSION M27)."""

import sys
from pathlib import Path

import pytest

from tests.clients.conftest import ADMIN
from tests.clients.running import run
from tests.live import LiveServer

HERE = Path(__file__).parent
TOUR = HERE / "tour.py"
SCRIPTS = (TOUR, HERE / "answers.py", HERE / "shopping.py")


@pytest.mark.mission("M27")
def test_a_generated_python_client_passes_strict_mypy_and_takes_the_tour(
    server: LiveServer, contract: Path, tmp_path: Path
) -> None:
    client = tmp_path / "concord_client"
    generator = Path(sys.executable).with_name("openapi-python-client")
    files = ("--path", contract, "--output-path", client)
    # A part of the contract that the generator cannot use is a warning, and here a failure.
    options = ("--meta", "none", "--config", HERE / "openapi-python-client.yaml")
    run((generator, "generate", *files, *options, "--fail-on-warning"), cwd=tmp_path)
    checks = ("--strict", "--disallow-any-unimported", "--config-file=", "--cache-dir=cache")
    run(
        (sys.executable, "-m", "mypy", *checks, client, *SCRIPTS),
        cwd=tmp_path,
        MYPYPATH=".",
    )
    printed = run((sys.executable, TOUR, server.url), cwd=tmp_path, PYTHONPATH=".", **ADMIN)
    assert printed == "The tour is done.\n"
