"""A PostgreSQL server of the bench's own, which nobody else uses and which ends with it."""

import contextlib
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_CONNECTIONS = 600
_SECONDS = 60


@contextlib.contextmanager
def postgresql(core: int) -> Iterator[str | None]:
    """The URL of a new, empty database on a server that runs on one core.

    It is None where PostgreSQL's programs are not installed.
    """
    programs = _programs()
    if programs is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="concord-bench-"))
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    try:
        if os.geteuid() == 0:
            record = pwd.getpwnam(user)
            os.chown(folder, record.pw_uid, record.pw_gid)
        data = folder / "data"
        _run(user, [str(programs / "initdb"), "-D", str(data), "-U", "bench", "-A", "trust"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c max_connections={_CONNECTIONS}"
        options += f" -c unix_socket_directories={folder}"
        control = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
        _run(user, ["taskset", "-c", str(core), *control, "-o", options, "start"])
        try:
            yield f"postgresql://bench@127.0.0.1:{port}/postgres"
        finally:
            _run(user, [*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The newest that is installed: Debian keeps initdb and pg_ctl off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


def _run(user: str, command: Sequence[str]) -> None:
    """Run a command to its end as `user`."""
    prefix = ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []
    subprocess.run(  # noqa: S603 - Commands of our own.
        [*prefix, *command],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
    )
