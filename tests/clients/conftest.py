"""The service that the generated clients are run against, and the contract as it serves it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.live import LiveServer, running_server

ADMIN = {"ADMIN_EMAIL": "grace@concord.example", "ADMIN_PASSWORD": "grey owls count at night"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A running service with an administrator, and people enough for several pages."""
    with running_server(tmp_path, METRICS_PORT="0") as server:
        arguments = ("--email", ADMIN["ADMIN_EMAIL"], "--name", "Grace Hopper")
        server.command("create-admin", *arguments, **ADMIN)
        server.command("seed-demo", "--count", "150")
        yield server


@pytest.fixture
def contract(server: LiveServer, tmp_path: Path) -> Path:
    """The contract, fetched from the running service as whoever makes a client would."""
    file = tmp_path / "openapi.json"
    file.write_bytes(httpx.get(f"{server.url}/openapi.json").raise_for_status().content)
    return file
