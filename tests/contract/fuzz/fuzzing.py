"""Schemathesis run from its command line against a served application, and what it reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.contract.fuzz.desk_shop import FILE
from tests.contract.fuzz.sign_in_desk import ACCOUNTS
from tests.live import HOST, LiveServer

PROJECT = Path(__file__).parents[3]
CONFIGURATION = PROJECT / "schemathesis.toml"
Caller = Literal["anonymous", "user", "administrator"]


@dataclass(frozen=True)
class Task:
    """What schemathesis is to do: act for somebody, in these phases, on what the filters leave.

    `token_seconds` is how long it keeps a token. It signs in again when a request is refused, but
    not on its walks along links, where 0 gives each request a token of its own. The walks are
    short, and go also along links that schemathesis guesses; `far` ones go on until they have been
    along most of those that the contract declares, and along no others.
    """

    caller: Caller
    phases: tuple[str, ...] = ("examples", "coverage", "fuzzing", "stateful")
    filters: tuple[str, ...] = ()
    token_seconds: int = 1
    far: bool = False


@dataclass(frozen=True)
class Chance:
    """From which seed, and how many examples of each operation."""

    seed: int
    examples: int


@dataclass(frozen=True)
class Outcome:
    """What schemathesis did.

    `operations` is how many were tested of those that were to be. `answers` has the statuses of
    each operation (method and path). `checks` counts by name, `links` by source and target, and
    `peers` by operation the requests for somebody's resource that were sent again as somebody else.
    """

    exit_code: int
    output: str
    seconds: float
    cases: int
    operations: tuple[int, int]
    phases: Mapping[str, str]
    warnings: frozenset[str]
    answers: Mapping[str, list[int]]
    checks: Counter[str]
    links: Counter[str]
    peers: Counter[str]

    def __str__(self) -> str:
        """Everything that can be counted, for whoever reads the output of the tests."""
        return (
            f"{self.cases} cases, {self.operations[0]} operations, {self.checks.total()} checks of "
            f"{len(self.checks)} kinds, {self.links.total()} steps along {len(self.links)} links, "
            f"{self.peers.total()} requests as a peer, {self.seconds:.0f} s"
        )


def run_schemathesis(
    server: LiveServer, desk: str, task: Task, chance: Chance, folder: Path
) -> Outcome:
    """Run a task; `desk` is the URL at which accounts sign in, `folder` is for files."""
    folder.mkdir()
    configuration = folder / CONFIGURATION.name
    details = _walks(task, chance) + _sign_in(task, desk, folder)
    configuration.write_text(CONFIGURATION.read_text() + details)
    finished = subprocess.run(  # noqa: S603 - our own interpreter and arguments.
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *(f"--config-file={configuration}", "--no-color"),
            *("run", f"{server.url}/openapi.json", "--checks=all"),
            *(f"--phases={','.join(task.phases)}", *task.filters),
            *(f"--seed={chance.seed}", f"--max-examples={chance.examples}"),
            *(f"--report-json-path={folder / 'summary.json'}",),
        ],
        cwd=PROJECT,
        env={
            **os.environ,
            # Otherwise each request looks through the environment for a proxy.
            "NO_PROXY": HOST,
            "SIGN_IN_DESK": desk,
            "FILE_OF_DESK": FILE,
            "FUZZING_COUNTS": str(folder / "counts.json"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError:
        raise AssertionError(f"schemathesis did not run:\n{finished.stdout}") from None
    counts = json.loads((folder / "counts.json").read_text())
    operations = summary["operations"]
    return Outcome(
        exit_code=finished.returncode,
        output=finished.stdout,
        seconds=summary["running_time"],
        cases=summary["test_cases"]["generated"],
        operations=(operations["tested"], operations["selected"]),
        phases={name: phase["status"] for name, phase in summary["phases"].items()},
        warnings=frozenset(name for name, found in summary["warnings"].items() if found),
        answers=counts["answers"],
        checks=Counter(counts["checks"]),
        links=Counter(counts["links"]),
        peers=Counter(counts["peers"]),
    )


def _walks(task: Task, chance: Chance) -> str:
    """Say how often to walk, and how far."""
    count, steps = (2 * chance.examples, 30) if task.far else (3 * chance.examples, 6)
    lines = ["[phases.stateful]", f"max-steps = {steps}", f"generation.max-examples = {count}"]
    if task.far:
        lines.append("inference.algorithms = []")
    return "\n".join(["", *lines, ""])


def _sign_in(task: Task, desk: str, folder: Path) -> str:
    if task.caller == "anonymous":
        return ""
    accounts = folder / "accounts.json"
    accounts.write_text(json.dumps({"auth": [_account(name, desk) for name in ACCOUNTS]}))
    return (
        f"\n[auth.wfc]\npath = '{accounts}'\nuser = '{task.caller}'\n"
        f"peers = ['user', 'peer']\nrefresh_interval = {task.token_seconds}\n"
    )


def _account(name: str, desk: str) -> dict[str, object]:
    """Say how somebody signs in, in the format of Web Fuzzing Commons."""
    token = {"extractFrom": "body", "extractSelector": "/access_token"}
    token |= {"sendIn": "header", "sendName": "Authorization", "sendTemplate": "Bearer {token}"}
    sign_in = {"verb": "POST", "externalEndpointURL": f"{desk}/{name}", "payloadRaw": "{}"}
    return {"name": name, "loginEndpointAuth": {**sign_in, "token": token}}
