"""The resource for a path and a method, over HTTP and generated from the contract."""

from collections.abc import Mapping

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.api.answers import comparable, problem
from tests.api.resources import ALLOW, DECLARED, METHODS, get_raw
from tests.api.sample_calls import SampleCall, operations
from tests.api.things import things_for
from tests.factories import make_account
from tests.service import Service

pytestmark = pytest.mark.mission("M4")

READING = [operation for operation in operations() if operation.method == "GET"]
# None of these can be the id of an account.
NO_IDS = (
    *("CANARY", "0", "-1", "-0", "+1", "01", "1.0", "1e3", "1_000", "0x1", "true", "null", "*"),
    *("9223372036854775808", "9" * 4301, "1%2F2", "1%20", "%201", "1;CANARY", "1,2", "%D9%A1"),
    *("%EF%BC%91", "1%0A", "%00", "1%00", "%7F", "%FF", "%ED%A0%80", "%", "%zz", "%%31"),
)


@pytest.fixture(scope="module")
def admin(service: Service) -> dict[str, str]:
    return bearer(token_for(service, make_account(service, role="admin")))


def without(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}


@pytest.mark.parametrize("path", DECLARED)
def test_a_405_lists_all_methods_of_the_path(client: httpx.Client, path: str) -> None:
    for method in sorted({*METHODS, "TRACE", "PROPFIND"} - DECLARED[path]):
        answer = client.request(method, path)
        assert answer.status_code == 405, method
        assert problem(answer) == "method-not-allowed"
        assert answer.headers["allow"] == ALLOW[path]
        assert answer.json()["allow"] == ALLOW[path].split(", ")


@pytest.mark.parametrize("path", DECLARED)
def test_options_needs_no_token_and_has_no_body(client: httpx.Client, path: str) -> None:
    for target in (path, f"{path}/".replace("//", "/")):
        answer = client.options(target)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["allow"] == ALLOW[path]
        assert "content-type" not in answer.headers
        assert "content-length" not in answer.headers


@pytest.mark.parametrize("operation", READING, ids=lambda operation: operation.id)
def test_head_is_get_without_a_body(
    service: Service, client: httpx.Client, admin: dict[str, str], operation: SampleCall
) -> None:
    url = operation.url(things_for(service, operation, make_account(service)).places)
    got = client.get(url, params=operation.query, headers=admin)
    head = client.head(url, params=operation.query, headers=admin)
    assert got.status_code == operation.success
    assert head.content == b""
    assert head.status_code == got.status_code
    assert comparable(head).headers == comparable(got).headers
    assert int(head.headers["content-length"]) == len(got.content)


@pytest.mark.parametrize("path", ["/none", "/v1/users/0", "/v1/profile", "/v1/divide?a=x"])
def test_head_of_a_problem_has_no_body(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    changing = ("content-length", "date", "x-request-id", "ratelimit")
    assert without(head.headers, *changing) == without(got.headers, *changing)


@pytest.mark.parametrize(
    "operation", [each for each in READING if each.path != "/"], ids=lambda operation: operation.id
)
def test_one_trailing_slash_is_the_same_resource(
    service: Service, client: httpx.Client, admin: dict[str, str], operation: SampleCall
) -> None:
    url = operation.url(things_for(service, operation, make_account(service)).places)
    without_slash = client.get(url, params=operation.query, headers=admin)
    with_slash = client.get(f"{url}/", params=operation.query, headers=admin)
    assert without_slash.status_code == 200
    assert comparable(with_slash) == comparable(without_slash)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/users/", 422),
        ("POST", "/v1/auth/token/", 422),
        ("PATCH", "/v1/profile/", 401),
        ("DELETE", "/v1/users/1/", 401),
    ],
)
def test_a_trailing_slash_never_redirects(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path, headers={"Host": "evil.example"})
    assert answer.status_code == status
    assert "location" not in answer.headers


@pytest.mark.parametrize("value", NO_IDS)
def test_an_impossible_id_in_a_path_is_404_for_every_method(
    service: Service, client: httpx.Client, admin: dict[str, str], value: str
) -> None:
    answer = get_raw(service, f"/v1/users/{value}")
    assert answer.status == 404
    assert b"CANARY" not in answer.body
    for method in ("GET", "HEAD", "PATCH", "DELETE", "OPTIONS", "PUT"):
        for headers in ({}, admin):
            sent = client.request(method, f"/v1/users/{value}", headers=headers)
            assert sent.status_code == 404, method


@pytest.mark.parametrize("path", ["/problems/Not-Found", "/problems/a--b", "/docs/x", "/docs/.css"])
def test_an_undeclared_name_in_a_path_is_404(client: httpx.Client, path: str) -> None:
    assert problem(client.get(path)) == "not-found"


def test_the_largest_id_is_accepted(client: httpx.Client, admin: dict[str, str]) -> None:
    path = f"/v1/users/{2**63 - 1}"
    assert client.get(path).status_code == 401
    assert problem(client.get(path, headers=admin)) == "not-found"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/%68ealth", 200),
        ("/%68%65%61%6c%74%68", 200),
        ("/%68%65%61%6C%74%68/", 200),
        ("/v1/%64ivide?a=1&b=2", 200),
        ("/docs/swagger%2dui.css", 200),
        ("/problems/not%2Dfound", 200),
        ("/v1/users/%31", 401),
        ("/HEALTH", 404),
        ("/health%2F", 404),
        ("/health%2Fready", 404),
        ("/v1%2fdivide?a=1&b=2", 404),
        ("/docs%2Fswagger-ui.css", 404),
        ("/docs/..%2Fopenapi.json", 404),
        ("/health%0A", 404),
        ("/health%0D%0AX-Canary:%201", 404),
        ("/health%00", 404),
        ("/health%7F", 404),
        ("/health%C2%85", 404),
        ("/health%", 404),
        ("/health%2", 404),
        ("/health%zz", 404),
        ("/health%FF", 404),
        ("/%ED%A0%80", 404),
        ("//health", 404),
        ("/health//", 404),
        ("/v1//divide?a=1&b=2", 404),
        ("//evil.example/..", 404),
        ("/./health", 404),
        ("/v1/../health", 404),
        ("/v1/%2E%2E/health", 404),
        ("/health/.", 404),
        ("/health;a=b", 404),
        ("/v1/users/", 401),
        ("/v1/users//", 404),
        ("/" + "a/" * 5000, 404),
    ],
)
def test_a_path_is_decoded_once_and_segment_by_segment(
    service: Service, target: str, status: int
) -> None:
    answer = get_raw(service, target)
    assert answer.status == status
    assert answer.header("location") is None
    if status >= 400:
        assert answer.header("content-type") == "application/problem+json"


def test_an_unknown_path_looks_the_same_to_everybody(
    client: httpx.Client, admin: dict[str, str]
) -> None:
    answers = [client.get("/v1/none", headers=headers) for headers in ({}, admin, bearer("x"))]
    assert {answer.status_code for answer in answers} == {404}
    assert len({comparable(answer).body for answer in answers}) == 1


def test_the_root_leads_to_the_documentation(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 303
    assert answer.headers["location"] == "http://concord.example/docs"
