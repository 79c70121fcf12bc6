"""PgBouncer before a PostgreSQL server of a test's own, with the configuration of `deploy/`."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.faults.proxies import wait_until_listening
from tests.live import HOST, free_port
from tests.servers.postgresql_pair import Pair, own
from tests.tools import find_tool

ROOT = Path(__file__).parents[2]
_CONNECTIONS = "4"
"""Connections to the server, fewer than a process of the service has to PgBouncer."""
_ROLE = re.compile(r"(?m)^ALTER ROLE concord (SET .*;)$")


@dataclass
class Pooler:
    """A PgBouncer, which can be killed and started again."""

    folder: Path
    port: int

    def url_of(self, database: str, role: str = "postgres") -> str:
        """A database of the server behind it, as PgBouncer offers it."""
        return f"postgresql://{role}:{role}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        log = self.folder / "pgbouncer.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the program was looked up.
                [find_tool("pgbouncer", "/usr/sbin/pgbouncer"), self.folder / "pgbouncer.ini"],
                stdout=output,
                stderr=output,
            )
        wait_until_listening(self.port, self._process, log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it at once, with all its connections."""
        self._process.send_signal(how)
        self._process.wait(10)

    def reconnect(self) -> None:
        """Let it open new connections to the server, which have new settings of the role."""
        with psycopg.connect(self.url_of("pgbouncer"), autocommit=True) as connection:
            connection.pgconn.exec_(b"RECONNECT")


def set_up_role(server: Pair) -> None:
    """Give the role what the documentation asks for."""
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    with psycopg.connect(server.url_of(0), autocommit=True) as connection:
        for setting in _ROLE.findall(page):
            connection.execute(f"ALTER ROLE postgres {setting}")


@contextmanager
def running_pooler(port: int, more: str = "") -> Iterator[Pooler]:
    """Run PgBouncer before the server on a port, with more lines of configuration.

    It knows the roles `postgres` and `bare`.

    Without its program the test is skipped, or fails if CI is set to "true".
    """
    folder = Path(tempfile.mkdtemp(prefix="concord-pgbouncer-"))
    pooler = Pooler(folder, free_port())
    text = (ROOT / "deploy" / "pgbouncer.ini").read_text("utf-8")
    places = {
        "concord = host=database.example port=5432 dbname=concord": f"* = host={HOST} port={port}",
        "127.0.0.1": HOST,
        "6432": str(pooler.port),
        "/etc/pgbouncer": str(folder),
        "pool_size = 20": f"pool_size = {_CONNECTIONS}",
    }
    for place, value in places.items():
        assert place in text
        text = text.replace(place, value)
    text += f"unix_socket_dir =\nadmin_users = postgres\n{more}\n"
    if os.geteuid() == 0:
        text += "user = postgres\n"
    (folder / "pgbouncer.ini").write_text(text)
    (folder / "userlist.txt").write_text('"postgres" "postgres"\n"bare" "bare"\n')
    own(folder)
    pooler.start()
    try:
        yield pooler
    finally:
        pooler.stop()
        shutil.rmtree(folder)
