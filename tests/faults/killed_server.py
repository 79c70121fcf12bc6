"""A server that dies at once, as in a power failure."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from api.server.commands import cli
from app import PROGRAM
from tests.live import APP, is_healthy

_FORKS = get_context("forkserver")
# What is forked has imported the program already, which is most of the time of a start.
_FORKS.set_forkserver_preload(["app"])


@contextmanager
def killed_server(
    folder: Path, port: int, database_url: str, **settings: str
) -> Iterator[ForkServerProcess]:
    """Serve until the block ends, and then not a moment longer."""
    environment = {
        "APP_ENV": "test",
        "PORT": str(port),
        "DATABASE_URL": database_url,
        "SIGNING_KEY_FILE": str(folder / "signing-key.pem"),
        **settings,
    }
    process = _FORKS.Process(target=_serve, args=(folder, environment))
    process.start()
    try:
        deadline = time.monotonic() + 60
        while not is_healthy(port) and time.monotonic() < deadline:
            assert process.is_alive(), (folder / "server.log").read_text()[-2000:]
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


def _serve(folder: Path, environment: Mapping[str, str]) -> None:
    """Be the program from here on, in its own folder, with these settings and no others."""
    log = os.open(folder / "server.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    if "LD_PRELOAD" in environment:
        # Only a new program loads a library first.
        os.execve(sys.executable, (sys.executable, str(APP), "serve"), environment)  # noqa: S606 - our own interpreter and file.
    os.environ.clear()
    os.environ.update(environment)
    cli(["serve"], obj=PROGRAM)
