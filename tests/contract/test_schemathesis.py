"""M26: the service is fuzzed by schemathesis as it runs.

Every phase and every check, on a real socket, without a token, as a user and as an administrator.
The phases `examples` and `coverage` send the same whatever the seed, so only the others are run
again with other seeds. `make fuzz` does the same for longer, from seeds of chance.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.contract.document import load_document
from app import CONTRACT
from tests.contract.fuzzing import Caller, Outcome, Task, run_schemathesis
from tests.contract.sign_in_desk import open_desk
from tests.contract.walk import operations
from tests.live import HOST, LiveServer, free_port, running_server
from tests.seen import note_pairs

pytestmark = pytest.mark.fuzz

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
SEED = os.environ.get("FUZZ_SEED", "1")
PHASES_OF_CHANCE = ("fuzzing", "stateful")
CALLERS: tuple[Caller, ...] = ("anonymous", "user", "administrator")

SEEDS_OF_WALKS = range(2, 12)
"""Which seeds to walk with: two at least, then on until everything was seen. A walk of schemathesis
ends early where an answer depends on those before, so that no single seed sees it all."""

WALKS: Mapping[str, Any] = {
    "phases": PHASES_OF_CHANCE,
    "filters": ("--include-tag=users", "--include-tag=profile"),
    "token_seconds": 0,
}

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
}

Fuzz = Callable[..., Outcome]


@pytest.fixture
def fuzz(tmp_path: Path, record_property: Callable[[str, object], None]) -> Fuzz:
    """Run schemathesis against a service of its own, and insist that it found nothing."""

    def run(caller: Caller, number: int, **details: Any) -> Outcome:
        seed = secrets.randbelow(2**32) if SEED == "random" else int(SEED) + number - 1
        task = Task(caller, seed=seed, examples=EXAMPLES, **details)
        folder = tmp_path / str(number)
        folder.mkdir()
        metrics_port = free_port()
        settings = {
            "APP_ENV": "test",
            "SIGNING_KEY_FILE": str(folder / "signing-key.pem"),
            "METRICS_PORT": str(metrics_port),
            "TRUSTED_PROXIES": HOST,
            "THREADS": "16",
        }
        with running_server(folder, **settings) as server, open_desk(server) as desk:
            outcome = run_schemathesis(server, desk, task, folder / "schemathesis")
            note_pairs(_seen(metrics_port))
            _insist(outcome, server, task)
        record_property("counted", f"schemathesis, {caller}, seed {seed}: {outcome}")
        return outcome

    return run


@pytest.mark.parametrize("caller", CALLERS)
def test_every_phase_and_check_finds_nothing(caller: Caller, fuzz: Fuzz) -> None:
    outcome = fuzz(caller, 1)
    assert set(outcome.checks) == CHECKS
    if caller == "administrator":
        # What always fails is not tested, and nothing has to fail for an administrator.
        assert len(_successful(outcome)) >= outcome.operations[1]


def test_another_seed_finds_nothing_without_a_token(fuzz: Fuzz) -> None:
    fuzz("anonymous", 2, phases=PHASES_OF_CHANCE)


def test_walks_of_an_administrator_along_every_link_find_nothing(fuzz: Fuzz) -> None:
    links = set(_declared_links("users", "profile"))
    for number in SEEDS_OF_WALKS:
        links -= set(fuzz("administrator", number, **WALKS).links)
        if number > 2 and not links:
            return
    pytest.fail(f"links that were never followed: {links}")


def test_a_peer_never_gets_what_a_user_owns(fuzz: Fuzz) -> None:
    """Nobody can make an account, so that the user's own is the one to learn of and to ask for."""
    walks = {**WALKS, "filters": (*WALKS["filters"], "--exclude-operation-id=create_user")}
    missing = {f"{method} /v1/users/{{user_id}}" for method in ("GET", "PATCH", "DELETE")}
    peers = 0
    for number in SEEDS_OF_WALKS:
        outcome = fuzz("user", number, **walks)
        missing -= _successful(outcome)
        peers += outcome.peers
        if number > 2 and peers and not missing:
            return
    pytest.fail(f"{peers} requests as a peer; never done: {missing}")


def _insist(outcome: Outcome, server: LiveServer, task: Task) -> None:
    assert outcome.exit_code == 0, f"seed {task.seed}:\n{outcome.output}"
    assert {name for name, end in outcome.phases.items() if end == "success"} == set(task.phases)
    assert outcome.operations[0] == outcome.operations[1] > 0
    assert outcome.warnings <= ACCEPTED_WARNINGS, outcome.output
    assert "Traceback" not in server.log_text()


def _successful(outcome: Outcome) -> set[str]:
    return {label for label, status in outcome.answers if status < 400}


def _declared_links(*tags: str) -> Iterator[str]:
    """Name the links of the operations with these tags as schemathesis does."""
    found = list(operations(load_document(CONTRACT).bundle))
    labels = {operation.node["operationId"]: operation.place for operation in found}
    for operation in found:
        if operation.node["tags"][0] in tags:
            for status, response in operation.responses.items():
                for name, link in response.get("links", {}).items():
                    target = labels[link["operationId"]]
                    yield f"{operation.place} -> [{status}] {name} -> {target}"


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
