"""M26: the service is fuzzed by schemathesis as it runs.

Every phase and every check, on a real socket, as an administrator; the phases that send something
else each time also without a token and as a user.
Each run has a seed of its own; the phases `examples` and `coverage` send the same from any seed.
`make fuzz` does the same for longer, from seeds of chance.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.fuzz.fuzzing import Chance, Outcome, Task, run_schemathesis
from tests.contract.fuzz.sign_in_desk import open_desk
from tests.contract.walk import operations
from tests.databases import make_database_url
from tests.live import HOST, free_port, running_server
from tests.our_document import our_document
from tests.seen import note_pairs
from tests.signing import PAYMENT_SECRETS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
CHOSEN = os.environ.get("FUZZ_SEED", "1")
SEED = secrets.randbelow(2**32) if CHOSEN == "random" else int(CHOSEN)
"""The first seed. `FUZZ_SEED=random` has the tests say what it was."""

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(40 * EXAMPLES)]

AREAS = {
    "accounts": ("users", "profile", "files"),
    "catalogue": ("products", "stock"),
    "orders": ("orders", "payments"),
}
"""Tags of operations that links lead along together. All others are the same on any database."""
STORED = tuple(f"--include-tag={tag}" for tags in AREAS.values() for tag in tags)

AT_RANDOM = ("examples", "fuzzing", "stateful")
"""The phases besides `coverage`, which sends the same to the same code on any database, and to a
user as to an administrator. Without a token, what is not public would refuse all of it."""

EVERYTHING = [
    pytest.param(0, "sqlite", Task("anonymous", AT_RANDOM), id="anonymous"),
    pytest.param(1, "sqlite", Task("user", AT_RANDOM), id="user"),
    pytest.param(2, "sqlite", Task("administrator"), id="administrator"),
    pytest.param(
        3,
        "postgresql",
        Task("administrator", AT_RANDOM, STORED),
        id="postgresql",
        marks=pytest.mark.postgresql,
    ),
]

DECLARED = {operation.place for operation in operations(our_document().bundle)}

MOST = 0.75
"""The part of all links that is most of them."""

LEAST_WALKS = max(1, EXAMPLES // 50)
NUMBERS_OF_WALKS = range(4, 14 + LEAST_WALKS)
"""So many runs at least, then on until all was seen: schemathesis stops walking at an answer that
depends on those before it, so that no single run sees it all."""

ACCEPTED_WARNINGS = {
    # Who may not do something is refused, and schemathesis asks whether that is a mistake.
    "missing_auth",
    # Other people's accounts are missing for a user, and half of what is sent is meant to be wrong.
    "missing_test_data",
    "validation_mismatch",
    "low_valid_rate",
}

CHECKS = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
    "object_level_authorization",
    "max_response_time",
    "every_error_is_a_problem",
    "well_formed_requests_are_refused_by_rules",
    "what_is_repeated_is_answered_and_not_done_again",
}

Fuzz = Callable[[int, Task], Outcome]


@pytest.fixture
def database() -> str:
    """The kind of database, where a test does not choose."""
    return "sqlite"


@pytest.fixture
def fuzz(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fuzz]:
    """Run schemathesis against a service of the test's own, and insist that it finds nothing."""
    metrics_port = free_port()
    with (
        make_database_url(database, tmp_path) as database_url,
        running_server(
            tmp_path,
            APP_ENV="test",
            DATABASE_URL=database_url,
            SIGNING_KEY_FILE=str(tmp_path / "signing-key.pem"),
            METRICS_PORT=str(metrics_port),
            TRUSTED_PROXIES=HOST,
            THREADS="16",
            PAYMENT_SECRETS=PAYMENT_SECRETS,
        ) as server,
        open_desk(server) as desk,
    ):

        def run(number: int, task: Task) -> Outcome:
            chance = Chance(SEED + number, EXAMPLES)
            outcome = run_schemathesis(server, desk, task, chance, tmp_path / str(number))
            who = f"schemathesis as {task.caller}, {database}, seed {chance.seed}"
            line = f"{who} (FUZZ_SEED={SEED}): {outcome}"
            request.node.user_properties.append(("counted", line))
            _insist_on_nothing(outcome, task, line)
            return outcome

        yield run
        note_pairs(_seen(metrics_port))
        assert "Traceback" not in server.log_text()


@pytest.mark.parametrize(("number", "database", "task"), EVERYTHING)
def test_every_phase_and_check_finds_nothing(number: int, task: Task, fuzz: Fuzz) -> None:
    outcome = fuzz(number, task)
    assert outcome.operations[0] == outcome.operations[1] > 0
    if "coverage" in task.phases:
        assert set(outcome.checks) == CHECKS
    if task == Task("administrator"):
        # What always fails is not tested, and nothing has to fail for an administrator.
        assert outcome.answers.keys() & DECLARED <= _successful(outcome)


@pytest.mark.parametrize("area", AREAS)
def test_walks_of_an_administrator_along_links_find_nothing(area: str, fuzz: Fuzz) -> None:
    """Most links are to be followed; that each one leads on is shown in test_declared_links.py."""
    filters = tuple(f"--include-tag={tag}" for tag in AREAS[area])
    walk = Task("administrator", ("stateful",), filters, token_seconds=0, far=True)
    declared = set(_declared_links(*AREAS[area]))
    followed: set[str] = set()
    for count, number in enumerate(NUMBERS_OF_WALKS, 1):
        followed |= declared & set(fuzz(number, walk).links)
        if count >= LEAST_WALKS and len(followed) >= MOST * len(declared):
            return
    pytest.fail(f"links that were never followed: {declared - followed}")


def test_a_peer_never_gets_the_account_of_a_user(fuzz: Fuzz) -> None:
    """Nobody can make an account, so that the user's own is the one to learn of and to ask for."""
    filters = ("--include-tag=users", "--include-tag=profile", "--exclude-operation-id=create_user")
    walk = Task("user", ("fuzzing", "stateful"), filters, token_seconds=0)
    account = "/v1/users/{user_id}"
    done = {f"GET {account}", f"PATCH {account}", f"DELETE {account}"}
    _walk_until(fuzz, walk, done=done, asked={f"GET {account}"})


def test_a_peer_never_gets_the_order_of_a_user(fuzz: Fuzz) -> None:
    walk = Task("user", ("stateful",), ("--include-tag=orders",), token_seconds=0, far=True)
    order = "/v1/orders/{order_id}"
    done = {f"GET {order}", f"GET {order}/events", f"PATCH {order}", f"POST {order}/cancel"}
    _walk_until(fuzz, walk, done=done, asked={f"GET {order}"})


def _walk_until(fuzz: Fuzz, walk: Task, *, done: set[str], asked: set[str]) -> None:
    """Walk until a user has done all of this, and a peer was then asked for what is in `asked`."""
    for count, number in enumerate(NUMBERS_OF_WALKS, 1):
        outcome = fuzz(number, walk)
        done, asked = done - _successful(outcome), asked - outcome.peers.keys()
        if count >= LEAST_WALKS and not done | asked:
            return
    pytest.fail(f"never done: {done}; never asked as a peer: {asked}")


def _insist_on_nothing(outcome: Outcome, task: Task, line: str) -> None:
    assert outcome.exit_code == 0, f"{line}\n{outcome.output}"
    assert {name for name, end in outcome.phases.items() if end == "success"} == set(task.phases)
    assert outcome.warnings <= ACCEPTED_WARNINGS, f"{line}\n{outcome.output}"


def _successful(outcome: Outcome) -> set[str]:
    return {label for label, statuses in outcome.answers.items() if min(statuses) < 400}


def _declared_links(*tags: str) -> Iterator[str]:
    """Name the links between the operations with these tags as schemathesis does."""
    found = {
        operation.node["operationId"]: operation
        for operation in operations(our_document().bundle)
        if operation.node["tags"][0] in tags
    }
    for operation in found.values():
        for status, response in operation.responses.items():
            for name, link in response.get("links", {}).items():
                if target := found.get(link["operationId"]):
                    yield f"{operation.place} -> [{status}] {name} -> {target.place}"


def _seen(metrics_port: int) -> list[tuple[str, str]]:
    """Read which answers of which operations the service counted."""
    with urlopen(f"http://{HOST}:{metrics_port}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
    return [
        (sample.labels["operation"], sample.labels["status"])
        for family in families
        for sample in family.samples
        if sample.name == "concord_requests_total"
    ]
