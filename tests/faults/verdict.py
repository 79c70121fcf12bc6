"""The fault in a response to a hostile request, if there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from openapi_schema_validator import OAS30Validator

from tests.faults.cases import CLOSED, Case
from tests.faults.http1.wire import Answer, Exchange

PROBLEM = "application/problem+json"
# What must accompany a status: RFC 9110 (401, 405), RFC 6585 (429), and the contract (503).
COMPANIONS = {401: "www-authenticate", 405: "allow", 429: "retry-after", 503: "retry-after"}
# Names of what we are made of; a client that reads one has been shown an inner error.
INTERNALS = (
    b"Traceback", b'File "', b"site-packages", b"werkzeug", b"connexion", b"starlette",
    b"uvicorn", b"sqlalchemy", b"jsonschema", b"jiter", b"psycopg", b"sqlite",
)  # fmt: skip


@dataclass(frozen=True)
class Judge:
    """Knows the served contract's Problem schema and the types that `GET /problems` explains."""

    problem: OAS30Validator
    types: frozenset[str]

    def faults(self, case: Case, exchange: Exchange, log: str) -> list[str]:
        """Sentences that say what is wrong; `log` is what the server wrote meanwhile."""
        return [
            *self._shape(case, exchange),
            *(fault for answer in exchange.answers for fault in self._answer(case, answer)),
            *leaks(case, exchange, log),
        ]

    def _shape(self, case: Case, exchange: Exchange) -> Iterator[str]:
        if exchange.answers and exchange.seconds > case.within:
            yield f"{exchange.seconds:.1f} s until the answer, not {case.within:.1f} s"
        if exchange.rest:
            yield f"{len(exchange.rest)} bytes that belong to no complete answer"
        if not exchange.answers:
            if not exchange.closed:
                yield f"neither an answer nor a closed connection in {exchange.seconds:.0f} s"
            elif CLOSED not in case.expect:
                yield f"the connection was closed without an answer, not {case.expect}"
            return
        statuses = tuple(answer.status for answer in exchange.answers)
        if len(statuses) != case.answers:
            yield f"{len(statuses)} answers {statuses} instead of {case.answers}"
        elif case.statuses and statuses != case.statuses:
            yield f"statuses {statuses} instead of {case.statuses}"
        first = exchange.answers[0]
        if not {str(first.status), f"{first.status // 100}xx"} & set(case.expect):
            yield f"status {first.status} instead of {' or '.join(case.expect)}"

    def _answer(self, case: Case, answer: Answer) -> Iterator[str]:
        if not answer.header("x-request-id"):
            yield "no X-Request-ID"
        if answer.status >= 400:
            yield from self._problem(case, answer)
        if case.json is not None and str(answer.status) in case.expect:
            yield from _differences(case.json, json.loads(answer.body), "")

    def _problem(self, case: Case, answer: Answer) -> Iterator[str]:
        if answer.status >= 500:
            yield f"status {answer.status}: no input may cause that"
        if (media_type := answer.header("content-type")) != PROBLEM:
            yield f"content-type {media_type}"
        companion = COMPANIONS.get(answer.status)
        if companion and not answer.header(companion):
            yield f"{answer.status} without {companion}"
        if not case.is_head:
            yield from self._document(answer)
        elif answer.body:
            yield "a body in answer to HEAD"

    def _document(self, answer: Answer) -> Iterator[str]:
        try:
            problem = json.loads(answer.body)
        except ValueError:
            yield f"the body is not JSON: {answer.body[:80]!r}"
            return
        invalid = [
            f"the body is not a Problem at {error.json_path}: {error.validator}"
            for error in self.problem.iter_errors(problem)
        ]
        if invalid:
            yield from invalid
            return
        if problem["status"] != answer.status:
            yield f"status {problem['status']} in the body, {answer.status} in the status line"
        if problem["type"] not in self.types:
            yield f"type {problem['type']} is none of those under /problems"
        if (answer.header("x-request-id") or "-") not in problem["instance"]:
            yield f"instance {problem['instance']} is not the X-Request-ID"


def leaks(case: Case, exchange: Exchange, log: str) -> Iterator[str]:
    """Where the canary, another forbidden text or our own insides were shown."""
    for text in case.forbid:
        if not case.echoes and text.encode() in exchange.received:
            yield f"the answer repeats {text!r}"
        if text in log:
            yield f"the log holds {text!r}"
    if "Traceback (most recent call last)" in log:
        yield "the log has a traceback"
    if exchange.answers and exchange.answers[0].status >= 400:
        shown = exchange.answers[0].body
        yield from (f"the answer speaks of {word.decode()}" for word in INTERNALS if word in shown)


def _differences(wanted: object, got: object, pointer: str) -> Iterator[str]:
    """Where `got` lacks what `wanted` has; members beyond that are allowed."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            yield from _differences(value, got.get(key), f"{pointer}/{key}")
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _differences(one, other, f"{pointer}/{index}")
    elif wanted != got:
        yield f"{pointer or 'the body'} is {got!r} instead of {wanted!r}"
