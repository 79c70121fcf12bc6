"""Every operation can really send the refusals that it declares; those are provoked one by one.

The cases are made from the contract, so that a new operation brings its own. What depends on the
operation's business (409, 412, most of 422) has tests of its own. None is left to the fuzzer, which
meets a rare one only by chance.
"""

import uuid
from collections.abc import Iterator

import httpx
import pytest

from models.identity.user import User
from tests.api.accounts import fresh_address, token_for
from tests.api.sample_calls import SampleCall, operations
from tests.api.things import things_for
from tests.api.token_forger import Forger, ed25519
from tests.api.uploads import statuses_of, upload
from tests.databases import make_database_url
from tests.factories import make_account
from tests.our_document import our_document
from tests.seen import declared_pairs
from tests.service import Service, running

pytestmark = [pytest.mark.mission("M8"), pytest.mark.mission("M22")]

DECLARED = declared_pairs()
OPERATIONS = {operation.id: operation for operation in operations()}
BODY_TIMEOUT = 0.5
MAX_BODY = 2048
KEY = "\n        Idempotency-Key: a-key"
LIMITS: dict[str, int] = {
    # A limit that needs the body does not count a request whose body is not read.
    declared["operationId"]: min(
        each["limit"]
        for each in declared["x-rate-limit"]
        if not each["per"].startswith("#") and "when-given" not in each
    )
    for item in our_document().bundle["paths"].values()
    for declared in item.values()
    if isinstance(declared, dict) and "x-rate-limit" in declared
}


def that_declare(status: int) -> list[SampleCall]:
    return [OPERATIONS[name] for name, each in sorted(DECLARED) if each == str(status)]


def every(status: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", that_declare(status), ids=lambda each: each.id)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits on bodies."""
    folder = tmp_path_factory.mktemp("strict")
    limits = {"BODY_TIMEOUT": str(BODY_TIMEOUT), "MAX_BODY_BYTES": str(MAX_BODY)}
    with make_database_url("sqlite", folder) as url, running(folder, url, **limits) as service:
        yield service


@pytest.fixture(scope="module")
def admin(strict: Service) -> User:
    return make_account(strict, role="admin")


PAGES = ("get_confirm", "get_docs", "get_guide", "get_problem", "get_root", "list_problems")


def send(
    service: Service,
    operation: SampleCall,
    user: User,
    places: dict[str, object] | None = None,
    /,
    **headers: str,
) -> httpx.Response:
    """Send an operation's example, about things of its own unless `places` names others."""
    known = {"Authorization": f"Bearer {token_for(service, user)}", **fresh_address()}
    things = things_for(service, operation, user)
    with httpx.Client(base_url=service.url) as client:
        return operation.call(
            client, {**known, **headers}, places=places or things.places, members=things.members
        )


@every(400)
def test_an_undeclared_query_parameter_is_refused(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    known = {"Authorization": f"Bearer {token_for(strict, admin)}", **fresh_address()}
    url = strict.url + operation.url(things_for(strict, operation, admin).places)
    # A web page ignores what others add to links to it, except large amounts.
    query = {"unknown": ["1"] * (101 if operation.id in PAGES else 1)}
    answer = httpx.request(operation.method, url, params=query, headers=known)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-parameters")


@pytest.mark.parametrize("path", ["/", "/confirm", "/docs", "/docs/guides/tour", "/problems"])
def test_web_pages_ignore_undeclared_query_parameters(strict: Service, path: str) -> None:
    answer = httpx.get(f"{strict.url}{path}?utm_source=%zz&fbclid=1", headers=fresh_address())
    assert answer.status_code == (303 if path == "/" else 200)


@pytest.mark.parametrize(
    "operation", [each for each in that_declare(404) if "{" in each.path], ids=lambda each: each.id
)
def test_a_missing_resource_is_not_found(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    answer = send(strict, operation, admin, {**operation.absent})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    "path",
    ["/docs/nothing.css", "/docs/guides/nothing", "/problems/nothing"],
    ids=["get_docs_asset", "get_guide", "get_problem"],
)
def test_a_missing_document_is_not_found(strict: Service, path: str) -> None:
    answer = httpx.get(strict.url + path, headers=fresh_address())
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@every(304)
def test_an_unchanged_resource_is_not_sent_again(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    places = things_for(strict, operation, admin).places
    first = send(strict, operation, admin, places)
    again = send(strict, operation, admin, places, **{"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


@every(412)
def test_a_failed_precondition_prevents_the_operation(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    conditions = [{"If-Match": '"999"'}, {"If-Match": 'W/"1"'}]
    if operation.method != "GET":
        conditions.append({"If-None-Match": "*"})
    places = things_for(strict, operation, admin).places
    for condition in conditions:
        answer = send(strict, operation, admin, places, **condition)
        assert (answer.status_code, answer.json()["code"]) == (412, "version-mismatch")


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS.values() if each.takes_key], ids=lambda each: each.id
)
def test_an_idempotency_key_is_for_one_request(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = send(strict, operation, admin, **key)
    other = send(strict, operation, admin, **key)
    assert first.status_code == operation.success
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


@every(406)
def test_an_unacceptable_response_is_not_sent(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    answer = send(strict, operation, admin, Accept="application/x-nothing")
    assert answer.status_code == 406
    assert answer.json()["code"] == "not-acceptable"


@pytest.mark.parametrize(
    "operation", [each for each in that_declare(403) if each.scopes], ids=lambda each: each.id
)
def test_a_token_without_the_scope_is_refused(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    forger = Forger(strict, admin)
    token = ed25519(forger.key.private, forger.header(), forger.claims(scope="other:scope"))
    answer = send(strict, operation, admin, Authorization=f"Bearer {token}")
    assert answer.status_code == 403
    assert "insufficient_scope" in answer.headers["www-authenticate"]


@every(415)
def test_a_compressed_body_or_xml_is_unsupported(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    for name, value in (("Content-Encoding", "gzip"), ("Content-Type", "application/xml")):
        assert send(strict, operation, admin, **{name: value}).status_code == 415


@every(413)
def test_a_body_over_the_limit_is_refused(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    with upload(strict, head_of(strict, operation, admin, MAX_BODY + 1)) as request:
        assert request.answer().status == 413


@every(408)
def test_a_body_that_never_arrives_times_out(
    strict: Service, admin: User, operation: SampleCall
) -> None:
    with upload(strict, head_of(strict, operation, admin, 10)) as request:
        request.send(b"{")
        assert request.answer().status == 408


@every(429)
def test_an_exceeded_limit_refuses_requests(strict: Service, operation: SampleCall) -> None:
    user = make_account(strict, role="admin")
    path = operation.url(things_for(strict, operation, user).places)
    # Requests that are refused for something else are counted too, and cost the least.
    head = f"""
        {operation.method} {path}?unknown=1 HTTP/1.1
        Authorization: Bearer {token_for(strict, user)}
        X-Forwarded-For: {fresh_address()["X-Forwarded-For"]}
        Accept: application/x-nothing
    """
    limit = LIMITS[operation.id]
    statuses = statuses_of(strict, head, limit + 1)
    assert len(statuses) == limit + 1
    assert set(statuses[:-1]) <= {400, 406}
    assert statuses[-1] == 429


def head_of(service: Service, operation: SampleCall, user: User, length: int) -> str:
    path = operation.url(things_for(service, operation, user).places)
    return f"""
        {operation.method} {path} HTTP/1.1
        Authorization: Bearer {token_for(service, user)}
        X-Forwarded-For: {fresh_address()["X-Forwarded-For"]}
        Content-Type: {"image/png" if operation.takes_picture else "application/json"}
        Content-Length: {length}{KEY if operation.takes_key else ""}
    """
