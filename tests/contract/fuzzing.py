"""Schemathesis run from its command line against the served application, and read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from sqlalchemy.orm import Session

from api.security import Tokens
from api.signing import load_signing_key
from models.database import Database
from models.demo import seed_demo_users
from models.password import Passwords
from models.user import Role, User
from tests.live import HOST, LiveServer

PROJECT = Path(__file__).parents[2]
HOOKS = "tests.contract.fuzzing_hooks"
PASSWORD = "seven green bicycles sing"
"""The password of the contract's examples, which so is the right one for every account here."""

Caller = Literal["anonymous", "user", "administrator"]
ACCOUNTS: Mapping[str, Role] = {"user": "user", "peer": "user", "administrator": "admin"}
"""Who can sign in. Neither of `user` and `peer` may see the other's account."""


class SignInDesk:
    """Hands out tokens of accounts that are always there.

    The fuzzer deletes, disables and demotes whom it can, the account that it acts for included.
    Its token then holds no longer and it signs in again: here, where the account is put right
    first, and where no limit on sign-ins counts.
    """

    def __init__(self, server: LiveServer) -> None:
        self._database = Database(server.environment["DATABASE_URL"])
        key = load_signing_key(Path(server.environment["SIGNING_KEY_FILE"]), create=False)
        self._tokens = Tokens(key, server.url)
        passwords = Passwords()
        # Made once, as another hash would be a change of password, which ends all tokens.
        self._password_hash = passwords.hash(PASSWORD, email="")
        # Others come first, so that the small numbers that fuzzers like are other people's ids,
        # and there is more than one page of them.
        seed_demo_users(self._database, passwords, count=30)

    def sign_in(self, name: str) -> str:
        """Issue a token for an account of `ACCOUNTS`."""
        restore = partial(self._restore, name=name)
        return self._tokens.issue(self._database.transact(restore, write=True)).access_token

    def close(self) -> None:
        """Give back the connections to the database."""
        self._database.dispose()

    def _restore(self, session: Session, *, name: str) -> User:
        email, role = f"{name}@desk.example", ACCOUNTS[name]
        password_hash = self._password_hash
        user = User.by_email(session, email)
        if user is None:
            create = User.create_administrator if role == "admin" else User.register
            return create(session, name=name, email=email, password_hash=password_hash)
        user.change(session, role=role, active=True, password_hash=password_hash)
        return user


@contextmanager
def open_desk(server: LiveServer) -> Iterator[str]:
    """Serve a sign-in desk until the block ends; its URL, to which the name is added."""
    desk = SignInDesk(server)

    class Window(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - named so by http.server.
            body = json.dumps({"access_token": desk.sign_in(self.path[1:])}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server has it.
            """Write nothing."""

    with ThreadingHTTPServer((HOST, 0), Window) as listener:
        thread = Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield f"http://{HOST}:{listener.server_port}/"
        finally:
            listener.shutdown()
            thread.join()
            desk.close()


@dataclass(frozen=True)
class Run:
    """One run of schemathesis: what it did and what it said."""

    exit_code: int
    output: str
    summary: Mapping[str, Any]
    checks: Counter[str]
    statuses: Counter[tuple[str, int]]

    @property
    def cases(self) -> int:
        """How many cases were generated."""
        return int(self.summary["test_cases"]["generated"])

    @property
    def phases(self) -> dict[str, str]:
        """How each phase ended."""
        return {name: phase["status"] for name, phase in self.summary["phases"].items()}


def fuzz(
    server: LiveServer, caller: Caller, *, desk: str, seed: int, examples: int, folder: Path
) -> Run:
    """Run every phase and every check against a server."""
    folder.mkdir()
    config = folder / "schemathesis.toml"
    config.write_text((PROJECT / "schemathesis.toml").read_text() + _auth(caller, desk, folder))
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "--no-color"]
    command += ["run", f"{server.url}/openapi.json", "--checks=all"]
    command += ["--phases=examples,coverage,fuzzing,stateful"]
    command += [f"--seed={seed}", f"--max-examples={examples}"]
    command += [f"--report-json-path={folder / 'summary.json'}"]
    command += [f"--report-ndjson-path={folder / 'events.ndjson'}"]
    environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis")}
    finished = subprocess.run(  # noqa: S603 - our own interpreter and arguments.
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    output = finished.stdout + finished.stderr
    summary = json.loads((folder / "summary.json").read_text())
    return Run(finished.returncode, output, summary, *_counts(folder / "events.ndjson"))


def _auth(caller: Caller, desk: str, folder: Path) -> str:
    """Give the configuration of who signs in, in the format of Web Fuzzing Commons."""
    if caller == "anonymous":
        return ""
    token = {"extractFrom": "body", "extractSelector": "/access_token"}
    token |= {"sendIn": "header", "sendName": "Authorization", "sendTemplate": "Bearer {token}"}
    entries = [
        {
            "name": name,
            "loginEndpointAuth": {
                "verb": "POST",
                "externalEndpointURL": desk + name,
                "payloadRaw": "{}",
                "token": token,
            },
        }
        for name in ACCOUNTS
    ]
    path = folder / "accounts.json"
    path.write_text(json.dumps({"auth": entries}))
    return f'\n[auth.wfc]\npath = "{path}"\nuser = "{caller}"\npeers = ["user", "peer"]\nrefresh_interval = 2\n'


def _counts(events: Path) -> tuple[Counter[str], Counter[tuple[str, int]]]:
    """Count the checks by name, and the answers by operation and status."""
    checks: Counter[str] = Counter()
    statuses: Counter[tuple[str, int]] = Counter()
    with events.open() as lines:
        for line in lines:
            if not line.startswith('{"ScenarioFinished"'):
                continue
            recorder = json.loads(line)["ScenarioFinished"]["recorder"]
            for results in recorder.get("checks", {}).values():
                checks.update(result["name"] for result in results)
            for case_id, interaction in recorder.get("interactions", {}).items():
                case = recorder["cases"][case_id]["value"]
                label = f"{case['method']} {case['path']}"
                if "response" in interaction:
                    statuses[label, interaction["response"]["status_code"]] += 1
    return checks, statuses
