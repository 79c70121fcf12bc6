"""A PostgreSQL server of a test's own, and a standby that confirms each of its commits."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from tests.databases import fast_folder
from tests.live import HOST, free_port
from tests.tools import find_tool

_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    # No test takes the power away.
    "fsync": "off",
    "wal_receiver_status_interval": "1",
    "wal_retrieve_retry_interval": "100ms",
}


@dataclass(frozen=True)
class Pair:
    """Two running servers, of which the second repeats what the first does."""

    folder: Path
    ports: tuple[int, int]

    @property
    def url(self) -> str:
        """The database, wherever it can be written to, as libpq and the settings take it."""
        hosts = ",".join(f"{HOST}:{port}" for port in self.ports)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    def url_of(self, number: int) -> str:
        """The database on one server."""
        return f"postgresql://postgres@{HOST}:{self.ports[number]}/postgres"

    def start(self, number: int, **settings: str) -> None:
        """Start a server, and wait until it can be asked."""
        told = _SETTINGS | {"port": str(self.ports[number])} | settings
        options = " ".join(f"-c {name}='{value}'" for name, value in told.items())
        log = self.folder / f"{number}.log"
        _run("pg_ctl", "start", "-D", self._data(number), "-l", log, "-o", options)

    def stop(self, number: int) -> None:
        """Stop a server at once, as a crash does."""
        _run("pg_ctl", "stop", "-D", self._data(number), "-m", "immediate")

    def is_running(self, number: int) -> bool:
        """Whether a server has neither been stopped nor crashed."""
        return (self._data(number) / "postmaster.pid").exists()

    @contextmanager
    def hanging(self, number: int) -> Iterator[None]:
        """Let a server hang, with all its processes, until the block ends."""
        # The first process starts all others.
        os.kill(self.processes(number)[0], signal.SIGSTOP)
        family = self.processes(number)
        try:
            for process in family:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in family:
                os.kill(process, signal.SIGCONT)

    def processes(self, number: int) -> list[int]:
        """The processes of a server, of which the first started all others."""
        first = (self._data(number) / "postmaster.pid").read_text().split()[0]
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [int(first), *map(int, children)]

    def close(self) -> None:
        """Stop what runs."""
        for number in (1, 0):
            if self.is_running(number):
                self.stop(number)

    def promote(self) -> None:
        """Make the standby take writes."""
        _run("pg_ctl", "promote", "-D", self._data(1))

    def create(self, **settings: str) -> None:
        """Make the first server, and start it."""
        made = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
        _run("initdb", *made, "-D", self._data(0))
        self.start(0, **settings)

    def follow(self, sync_state: str = "sync") -> None:
        """Make the standby, and wait until it confirms commits, or follows them (`async`)."""
        source = ("-h", HOST, "-p", str(self.ports[0]), "-U", "postgres")
        _run("pg_basebackup", *source, "-R", "--no-sync", "-c", "fast", "-D", self._data(1))
        self.start(1)
        until = time.monotonic() + _SECONDS
        with psycopg.connect(self.url_of(0), autocommit=True) as connection:
            while connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() != [
                (sync_state,)
            ]:
                assert time.monotonic() < until
                time.sleep(0.02)

    @contextmanager
    def followed(self) -> Iterator["Pair"]:
        """Run a server that follows the standby until the block ends; yield both of them."""
        folder = self.folder / "followed"
        folder.mkdir()
        own(folder)
        (folder / "0").symlink_to(self._data(1))
        pair = Pair(folder, (self.ports[1], free_port()))
        try:
            pair.follow("async")
            yield pair
        finally:
            if pair.is_running(1):
                pair.stop(1)

    def _data(self, number: int) -> Path:
        return self.folder / str(number)


@contextmanager
def running_server(tmp_path: Path, **settings: str) -> Iterator[Pair]:
    """Run the first server until the block ends, which may start the second one."""
    _find("initdb")
    folder = Path(tempfile.mkdtemp(dir=fast_folder(tmp_path)))
    own(folder)
    pair = Pair(folder, (free_port(), free_port()))
    try:
        pair.create(**settings)
        yield pair
    finally:
        pair.close()
        shutil.rmtree(folder)


@contextmanager
def running_pair(tmp_path: Path) -> Iterator[Pair]:
    """Run two servers until the block ends, which may stop either."""
    with running_server(tmp_path, synchronous_standby_names="*") as pair:
        pair.follow()
        yield pair


def own(folder: Path) -> None:
    """Give a folder to the user who runs the servers."""
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")


def _run(program: str, *arguments: str | Path) -> None:
    """Run a program of PostgreSQL's server, which refuses to be run by root."""
    run = partial(subprocess.run, cwd="/", capture_output=True, text=True, timeout=_SECONDS)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        run = partial(run, user=owner.pw_uid, group=owner.pw_gid, extra_groups=[])
    finished = run([_find(program), *arguments], check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def _find(program: str) -> str:
    """Find a program that Debian keeps away from PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return find_tool(program, *(str(folder / program) for folder in folders))
