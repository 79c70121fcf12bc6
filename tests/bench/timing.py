"""Whether time tells which addresses have accounts: `python tests/bench/timing.py [--rounds N]`.

The server that runs is asked to sign in with a wrong password, and for a link that sets a new one.
A round asks once for an address of each kind, in an order that chance gives, so that a busy moment
of the machine falls on all. Addresses are asked for once, and no client comes back. The times of
each kind are held against those of unknown addresses; the second row of these shows what chance
alone does. AUC is how often an address of the kind takes longer than an unknown one: 0.500 tells
nothing, and 1.000 tells for sure.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeAlias

from sqlalchemy import insert
from sqlalchemy.orm import Session
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from models.identity.password import Passwords
from models.storage.base import Base
from models.storage.database import Database
from models.storage.migrating import migrate
from tests.bench.cluster import postgresql
from tests.bench.rank_tests import compare
from tests.bench.telling import machine, say
from tests.live import running_server

DATABASE_CORE = 0
WARM = 10
"""Rounds before those that count."""
REFERENCE = "unknown"
ACCOUNTS: Mapping[str, Mapping[str, object]] = {
    "known": {},
    "disabled": {"active": False},
    "no password": {"password_hash": None},
}
"""Kinds of accounts, by what is special about their rows."""
KINDS = (REFERENCE, "unknown again", *ACCOUNTS)
BODIES: Mapping[str, Mapping[str, str]] = {
    "/v1/auth/token": {"password": "not seven green bicycles"},
    "/v1/auth/password-reset": {},
}
"""What is asked, with what is said besides the address."""
TIMES: Mapping[str, int] = {"/v1/auth/password-reset": 10}
"""What hashes no password is asked so much more often: smaller differences are seen in it."""

Emails: TypeAlias = Mapping[str, Sequence[str]]
"""Addresses by kind, one for each round."""
Times: TypeAlias = Mapping[str, Sequence[float]]
"""Seconds by kind, one of each round."""

_clients = count(1)


class Watch:
    """Asks the server, and takes the time."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._looks: dict[str, object] = {}

    def ask(self, path: str, email: str) -> float:
        """The seconds that an answer takes.

        Raises:
            RuntimeError: it does not look like the one that another address got.
        """
        body = json.dumps({"email": email, **BODIES[path]}).encode()
        number = next(_clients)
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
        begun = time.perf_counter()
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - begun
        apart = {"date", "x-request-id"}
        kept = [each for each in answer.getheaders() if each[0].lower() not in apart]
        own = answer.headers["X-Request-ID"].encode()
        look = (answer.status, kept, text.replace(own, b""))
        if look != self._looks.setdefault(path, look) or answer.status not in {202, 401}:
            raise RuntimeError(f"{path} answers {email} with {look}")
        return seconds


def measure(port: int, path: str, emails: Emails, random: Random) -> Times:
    """Ask for an address of each kind in every round."""
    watch = Watch(port)
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in tqdm(range(len(emails[REFERENCE])), unit=" rounds", leave=False, disable=None):
        for kind in random.sample(KINDS, len(KINDS)):
            seconds = watch.ask(path, emails[kind][turn])
            if turn >= WARM:
                taken[kind].append(seconds)
    return taken


def make_emails(rounds: int, random: Random) -> Mapping[str, Emails]:
    """Choose addresses for every path; nothing in them or in their order tells the kinds."""
    turns = {path: rounds * TIMES.get(path, 1) + WARM for path in BODIES}
    numbers = random.sample(range(100_000, 1_000_000), len(KINDS) * sum(turns.values()))
    addresses = iter(f"person{number}@example.com" for number in numbers)
    return {
        path: {kind: [next(addresses) for _ in range(turns[path])] for kind in KINDS}
        for path in BODIES
    }


@contextmanager
def serving(url: str, folder: Path, emails: Iterable[Emails]) -> Iterator[int]:
    """Serve with the accounts that there are to be; the port."""
    database = Database(url)
    try:
        migrate(database)
        for each in emails:
            database.transact(partial(_fill, emails=each), write=True)
    finally:
        database.dispose()
    environment = {
        "DATABASE_URL": url,
        "TRUSTED_PROXIES": "127.0.0.0/8",
        "MAIL_URL": f"file:{folder / 'mail'}",
    }
    with running_server(folder, **environment) as server:
        yield server.port


def _fill(session: Session, emails: Emails) -> None:
    password_hash = Passwords().hash("seven green bicycles", email="nobody@example.com")
    now = datetime.now(UTC)
    rows = [
        {
            "name": "Ada Lovelace",
            "email": email,
            "email_key": email,
            "role": "user",
            "active": True,
            "email_verified": True,
            "password_hash": password_hash,
            "password_change_required": False,
            "token_version": 1,
            "version": 1,
            "created_at": now,
            "updated_at": now,
            **special,
        }
        for kind, special in ACCOUNTS.items()
        for email in emails[kind]
    ]
    session.execute(insert(Base.metadata.tables["users"]), rows)


def report(path: str, database: str, times: Times) -> None:
    """Print the table of an operation."""
    rounds = len(times[REFERENCE])
    say(f"\nPOST {path} on {database}, {rounds} rounds\n")
    say("| address | median, ms | median difference, µs | signed-rank p | AUC | U test p |")
    say("|---|---|---|---|---|---|")
    for kind, own in times.items():
        if kind == REFERENCE:
            say(f"| {kind} | {statistics.median(own) * 1e3:.3f} | | | | |")
            continue
        found = compare(own, times[REFERENCE])
        cells = (
            f"{found.median * 1e3:.3f}",
            f"{found.difference * 1e6:+.0f}",
            f"{found.signed_rank_p:.4f}",
            f"{found.auc:.3f}",
            f"{found.u_p:.4f}",
        )
        say(f"| {kind} | {' | '.join(cells)} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="of signing in (100)")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="chooses the order")
    arguments = parser.parse_args()
    random = Random(arguments.seed)  # noqa: S311 - the order need not be hard to guess.
    say(f"Times on {machine()}, seed {arguments.seed}")
    with postgresql(DATABASE_CORE) as server_url:
        for name, url in (("SQLite", None), ("PostgreSQL", server_url)):
            if name == "PostgreSQL" and url is None:
                say("PostgreSQL is not installed: it is left out")
                continue
            with tempfile.TemporaryDirectory() as folder:
                own = url or f"sqlite:///{folder}/concord.db"
                emails = make_emails(arguments.rounds, random)
                with serving(own, Path(folder), emails.values()) as port:
                    for path in BODIES:
                        report(path, name, measure(port, path, emails[path], random))


if __name__ == "__main__":
    main()
