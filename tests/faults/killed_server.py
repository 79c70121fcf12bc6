"""A server that dies at once, as in a power failure."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live import APP, LiveServer


@contextmanager
def killed_server(
    folder: Path, port: int, database_url: str, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Serve until the block ends, and then not a moment longer."""
    environment = {
        "APP_ENV": "test",
        "PORT": str(port),
        "DATABASE_URL": database_url,
        "SIGNING_KEY_FILE": str(folder / "signing-key.pem"),
        **settings,
    }
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and file.
            [sys.executable, str(APP), "serve"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        server = LiveServer(port, folder / "server.log", environment, process)
        deadline = time.monotonic() + 60
        while not server.is_healthy() and time.monotonic() < deadline:
            assert process.poll() is None, server.log_text()[-2000:]
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
