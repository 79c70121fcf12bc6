"""M26: the service is fuzzed by schemathesis as it runs.

Every phase and every check, on a real socket, without a token, as a user and as an administrator.
The phases `examples` and `coverage` send the same whatever the seed, so only the others are run
again with other seeds. `make fuzz` does the same for longer, from seeds of chance.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.fuzzing import Caller, Outcome, Task, run_schemathesis
from tests.contract.sign_in_desk import open_desk
from tests.live import HOST, LiveServer, free_port, running_server
from tests.seen import note_pairs

pytestmark = pytest.mark.fuzz

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
SEED = os.environ.get("FUZZ_SEED", "1")
ALL_PHASES = ("examples", "coverage", "fuzzing", "stateful")
PHASES_OF_CHANCE = ("fuzzing", "stateful")
CALLERS: tuple[Caller, ...] = ("anonymous", "user", "administrator")

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

DECLARED_LINKS = {
    "GET / -> [303] self -> GET /docs",
    "GET /v1/users -> [200] first_user -> GET /v1/users/{user_id}",
    "GET /v1/users -> [200] next_page -> GET /v1/users",
    "GET /v1/users/{user_id} -> [200] update_user -> PATCH /v1/users/{user_id}",
    "POST /v1/users -> [201] delete_user -> DELETE /v1/users/{user_id}",
    "POST /v1/users -> [201] self -> GET /v1/users/{user_id}",
    "POST /v1/users -> [201] update_user -> PATCH /v1/users/{user_id}",
}

Fuzz = Callable[..., Outcome]


@pytest.fixture
def fuzz(tmp_path: Path, record_property: Callable[[str, object], None]) -> Fuzz:
    """Run schemathesis against a service of its own, and insist that it found nothing."""

    def run(
        caller: Caller, number: int, phases: tuple[str, ...], filters: tuple[str, ...] = ()
    ) -> Outcome:
        seed = secrets.randbelow(2**32) if SEED == "random" else int(SEED) + number - 1
        task = Task(caller, phases, seed, EXAMPLES, filters)
        metrics_port = free_port()
        settings = {
            "APP_ENV": "test",
            "SIGNING_KEY_FILE": str(tmp_path / "signing-key.pem"),
            "METRICS_PORT": str(metrics_port),
            "TRUSTED_PROXIES": HOST,
            "THREADS": "16",
        }
        with running_server(tmp_path, **settings) as server, open_desk(server) as desk:
            outcome = run_schemathesis(server, desk, task, tmp_path / "schemathesis")
            note_pairs(_seen(metrics_port))
            _insist(outcome, server, task)
        line = f"{caller}, seed {seed}: {outcome}"
        record_property("counted", f"schemathesis {line}")
        print(line)  # noqa: T201 - for whoever repeats a run of `make fuzz`.
        return outcome

    return run


@pytest.mark.parametrize("caller", CALLERS)
def test_every_phase_and_check_finds_nothing(caller: Caller, fuzz: Fuzz) -> None:
    outcome = fuzz(caller, 1, ALL_PHASES)
    assert set(outcome.checks) == CHECKS
    if caller == "administrator":
        # What only ever fails is not tested; for an administrator nothing has to fail.
        succeeded = {label for label, status in outcome.answers if status < 400}
        assert len(succeeded) >= outcome.operations[1]
        assert set(outcome.links) >= DECLARED_LINKS


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("caller", CALLERS)
def test_other_seeds_find_nothing(caller: Caller, number: int, fuzz: Fuzz) -> None:
    fuzz(caller, number, PHASES_OF_CHANCE)


def test_a_peer_never_gets_what_a_user_owns(fuzz: Fuzz) -> None:
    """Only one's own account is in reach, so that it is what schemathesis learns of and asks for."""
    filters = ("--include-tag=users", "--include-tag=profile", "--exclude-operation-id=create_user")
    outcome = fuzz("user", 4, PHASES_OF_CHANCE, filters)
    assert outcome.peers > 0
    for method in ("GET", "PATCH", "DELETE"):
        assert any(outcome.answers[f"{method} /v1/users/{{user_id}}", n] for n in (200, 204))


def _insist(outcome: Outcome, server: LiveServer, task: Task) -> None:
    assert outcome.exit_code == 0, f"seed {task.seed}:\n{outcome.output}"
    assert {name for name, end in outcome.phases.items() if end == "success"} == set(task.phases)
    assert outcome.operations[0] == outcome.operations[1] > 0
    assert outcome.warnings <= ACCEPTED_WARNINGS, outcome.output
    assert "Traceback" not in server.log_text()


def _seen(metrics_port: int) -> list[tuple[str, str]]:
    """Read which answers of which operations the service counted."""
    with urlopen(f"http://{HOST}:{metrics_port}/metrics") as page:  # noqa: S310 - our own URL.
        families = text_string_to_metric_families(page.read().decode())
    return [
        (sample.labels["operation"], sample.labels["status"])
        for family in families
        for sample in family.samples
        if sample.name == "concord_requests_total"
    ]
