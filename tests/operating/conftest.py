"""Fixtures of several tests of operating."""

from pathlib import Path

import pytest

from tests.servers.proxy_examples import make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for localhost and its key, apart and together."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
