"""Hostile requests, byte for byte over a real socket (issue 2; TRUST 18, 19, 21, 42; MISSION M8).

Whatever is sent, the answer is a 4xx problem+json or a closed connection, nothing that was sent
is repeated in the answer or in the log, and the service goes on. Odd but legal requests in the
corpus expect success, so that the strictness is not bought by refusing what is right.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openapi_schema_validator import OAS30Validator

from tests.faults.cases import Case, load
from tests.faults.corpus_people import People
from tests.faults.http1.wire import MalformedAnswer, exchange
from tests.faults.verdict import Judge
from tests.live import LiveServer, running_server

CASES = load()


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("corpus")
    # The proxy is the test itself, which gives each case an address of its own.
    with running_server(folder, TRUSTED_PROXIES="127.0.0.1", METRICS_PORT="0") as server:
        yield server


@pytest.fixture(scope="module")
def people(live_server: LiveServer) -> People:
    people = People(live_server)
    people.appoint()
    people.open_shop()
    people.renew()
    return people


@pytest.fixture(scope="module")
def judge(people: People) -> Judge:
    contract = people.ask("GET", "/openapi.json")
    components = {"$ref": "#/components/schemas/Problem", "components": contract["components"]}
    listed = people.ask("GET", "/problems")["items"]
    return Judge(OAS30Validator(components), frozenset(item["type"] for item in listed))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_no_request_gets_more_than_a_problem(
    case: Case, live_server: LiveServer, people: People, judge: Judge
) -> None:
    request = case.request(people.words)
    log_before = len(live_server.log_text())
    try:
        result = exchange(
            live_server.host, live_server.port, request, case.delivery, head=case.is_head
        )
    except MalformedAnswer as error:
        pytest.fail(f"the answer is not HTTP/1.1: {error}")
    faults = judge.faults(case, result, live_server.log_text()[log_before:])
    if not live_server.is_healthy():
        faults.append("the server no longer answers /health")
    if faults and any(answer.status < 300 for answer in result.answers):
        people.renew()
    assert not faults, "\n".join(
        [*faults, f"sent {len(request)} bytes: {request[:600]!r}", f"got {result.received[:900]!r}"]
    )


def test_the_service_survives_and_logs_nothing_that_was_sent(live_server: LiveServer) -> None:
    assert live_server.is_healthy()
    log = live_server.log_text()
    assert [case.id for case in CASES if any(text in log for text in case.forbid)] == []
    assert "Traceback (most recent call last)" not in log


def test_the_corpus_has_several_hundred_cases() -> None:
    assert len(CASES) >= 300
