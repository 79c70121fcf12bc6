"""The service that the generated clients are run against, and the contract as it serves it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.generating import generate
from tests.live import HOST, LiveServer, running_server

ADMIN = {"ADMIN_EMAIL": "grace@concord.example", "ADMIN_PASSWORD": "grey owls count at night"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A running service with an administrator, and people enough for several pages.

    It trusts the addresses that clients name, so that each tour has limits of its own.
    """
    folder = tmp_path_factory.mktemp("service")
    with running_server(folder, METRICS_PORT="0", TRUSTED_PROXIES=HOST) as server:
        arguments = ("--email", ADMIN["ADMIN_EMAIL"], "--name", "Grace Hopper")
        server.command("create-admin", *arguments, **ADMIN)
        server.command("seed-demo", "--count", "150")
        yield server


@pytest.fixture(scope="module")
def contract(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract, fetched from the running service as whoever makes a client would."""
    return fetch(server, "openapi.json", tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def newer(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same contract in OpenAPI 3.1."""
    return fetch(server, "openapi-3.1.json", tmp_path_factory.mktemp("newer"))


def fetch(server: LiveServer, name: str, folder: Path) -> Path:
    file = folder / name
    file.write_bytes(httpx.get(f"{server.url}/{name}").raise_for_status().content)
    return file


@pytest.fixture(scope="module")
def generated(contract: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clients of openapi-generator, each in a folder of its language."""
    folder = tmp_path_factory.mktemp("generated")
    generate(contract, folder)
    return folder
