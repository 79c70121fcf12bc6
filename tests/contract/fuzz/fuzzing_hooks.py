"""What schemathesis is told of Concord beside schemathesis.toml, which names this module."""

# ruff: noqa: ARG001, ARG002 - schemathesis passes all that it has, by name.

import gc
import itertools
import json
import os
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis import CheckContext, DeserializationContext, HookContext, Response
from schemathesis.cli import EventHandler, ExecutionContext, handler
from schemathesis.engine.events import EngineEvent, ScenarioFinished

from tests.contract.fuzz.fuzzing_data import (
    DESK,
    EVENT,
    KEY,
    AnyCase,
    ask_desk,
    is_positive,
    learn,
    put_right,
)
from tests.signing import stripe_headers

# All that was sent and answered is kept until the end, so that there is little garbage to look for.
gc.freeze()
gc.set_threshold(100_000, 20, 20)

PROBLEM = "application/problem+json"
MOST_PROOFS = 40
"""Requests with a password after which an account is replaced; an hour allows 50."""
_numbers = itertools.count(1)
_proofs: Counter[str] = Counter()

# What a well-formed request may be refused for, as `code` of the problem's `errors`: nothing that
# the schema could have said. schemathesis.toml lists the operations and their statuses.
BUSINESS_RULES = {"rule", "cursor", "propertyNames"}
BUSINESS_PROBLEMS = {
    "idempotency-key-reused",
    "impossible-division",
    "invalid-link",
    "invalid-picture",
    "mixed-currencies",
    "unknown-payment",
    "unknown-product",
    "version-mismatch",
    "weak-password",
}


@schemathesis.hook
def before_call(context: HookContext, case: AnyCase, kwargs: dict[str, Any]) -> None:
    """Let each request come from an address of its own, so that no limit per address counts it.

    The header is added where requests adds credentials, when the case is done: as a header of the
    case it would be part of what is tested.
    """
    put_right(case)
    number = next(_numbers)
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    def forwarded(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Forwarded-For"] = address
        if (request.url or "").endswith("/payment-events/stripe") and is_positive(case):
            # Schemathesis takes changed files for malformed ones, so it does not see this change.
            request.prepare_body(EVENT, None)
            request.headers.update(stripe_headers(EVENT))
        return request

    kwargs["auth"] = forwarded


@schemathesis.hook
def after_call(context: HookContext, case: AnyCase, response: Response) -> None:
    """Continue with another account when one has used up a limit, or is about to."""
    learn(case, response)
    caller = case.auth_identity
    if not DESK or not caller:
        return
    # All operations that check the password share one limit for each account.
    _proofs[caller] += isinstance(case.body, dict) and "current_password" in case.body
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS or _proofs[caller] >= MOST_PROOFS:
        _proofs[caller] = 0
        ask_desk(caller, "DELETE")


# The first name that schemathesis knows for YAML stands for them all.
@schemathesis.deserializer("text/html", "text/css", "text/javascript", "text/yaml")
def text(context: DeserializationContext, response: Response) -> str:
    """Read what the contract declares as a string, which YAML is here as well."""
    return response.text


@schemathesis.deserializer("image/png")
def octets(context: DeserializationContext, response: Response) -> bytes:
    """Read what the contract declares as binary."""
    return response.content


@schemathesis.deserializer("image/webp")
def picture(context: DeserializationContext, response: Response) -> str:
    """Read a picture as the string that its schema declares, one character for each byte."""
    return response.content.decode("latin-1")


@schemathesis.check
def every_error_is_a_problem(context: CheckContext, response: Response, case: AnyCase) -> None:
    """Ask for RFC 9457 also where no operation is, as for methods that nobody declared."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    assert response.headers["content-type"] == [PROBLEM], "the error is no problem"
    problem = response.json()
    assert problem["status"] == response.status_code, "the problem has another status"
    assert [problem["instance"]] == response.headers["x-request-id"], "the instance is another"


@schemathesis.check
def well_formed_requests_are_refused_by_rules(
    context: CheckContext, response: Response, case: AnyCase
) -> None:
    """Look closer where schemathesis.toml lets a well-formed request be refused."""
    if not is_positive(case) or response.status_code not in (400, 412, 422):
        return
    problem = response.json()
    slug = problem["type"].rpartition("/")[2]
    codes = {fault["code"] for fault in problem.get("errors", ())}
    # Whether a proof is needed depends on the change, and on the account's second factor.
    no_proof = problem.get("missing_fields") in (["current_password"], ["code"])
    # No string may contain NUL. OpenAPI 3.0 says so of values with patterns, but not of names.
    metadata = case.body.get("metadata") if isinstance(case.body, dict) else None
    nul_in_name = isinstance(metadata, dict) and any("\0" in name for name in metadata)
    by_rule = slug in BUSINESS_PROBLEMS or (codes and codes <= BUSINESS_RULES)
    assert by_rule or no_proof or nul_in_name, "a well-formed request was refused for its form"


@schemathesis.check
def what_is_repeated_is_answered_and_not_done_again(
    context: CheckContext, response: Response, case: AnyCase
) -> None:
    """Repeat what was done under a key, to the byte."""
    asked = response.request
    if KEY not in asked.headers or asked.method != "POST" or response.status_code >= 300:
        return
    with requests.Session() as session:
        again = session.send(asked, timeout=30)
    if again.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return
    assert again.headers.get("Idempotent-Replayed") == "true", "the repetition was done again"
    assert again.status_code == response.status_code, "the repetition had another status"
    assert again.content == response.content, "the repetition had another answer"


@handler()
class Counts(EventHandler[ExecutionContext]):
    """Writes the counts of an `Outcome` to the file FUZZING_COUNTS, if the tests name one."""

    def __init__(self, *_: object, **__: object) -> None:
        self.checks: Counter[str] = Counter()
        self.links: Counter[str] = Counter()
        self.peers: Counter[str] = Counter()
        self.answers: dict[str, list[int]] = {}

    def handle_event(self, ctx: ExecutionContext, event: EngineEvent) -> None:
        """Count what a scenario did."""
        if not isinstance(event, ScenarioFinished):
            return
        cases = event.recorder.cases
        self.links.update(node.transition.id for node in cases.values() if node.transition)
        for results in event.recorder.checks.values():
            self.checks.update(result.name for result in results)
        for case_id, interaction in event.recorder.interactions.items():
            case = cases[case_id].value
            label = f"{case.method} {case.path}"
            if case.auth_identity == "peer":
                self.peers[label] += 1
            if interaction.response is not None:
                self.answers.setdefault(label, []).append(interaction.response.status_code)

    def shutdown(self, ctx: ExecutionContext) -> None:
        """Write."""
        if file := os.environ.get("FUZZING_COUNTS"):
            Path(file).write_text(json.dumps(vars(self)))
