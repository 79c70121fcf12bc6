"""Query parameters and headers over HTTP: strict, with defaults, and named in errors."""

import re

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.api.resources import get_raw
from tests.factories import make_account
from tests.service import Service

pytestmark = pytest.mark.mission("M6")

REQUEST_ID = "x-request-id"


@pytest.fixture(scope="module")
def admin(service: Service) -> httpx.Client:
    """A client that acts for an administrator who has 30 accounts to list."""
    for _ in range(29):
        make_account(service)
    token = token_for(service, make_account(service, role="admin"))
    return service.client(**bearer(token))


def errors(answer: httpx.Response) -> list[tuple[str, str, str]]:
    """Where, which and what kind of fault, for each that a problem lists."""
    assert answer.status_code == 400
    assert problem(answer) == "invalid-parameters"
    listed = answer.json()["errors"]
    assert all(error["message"] for error in listed)
    assert f"{listed[0]['in']} " in answer.json()["detail"]
    assert listed[0]["parameter"] in answer.json()["detail"]
    return [(error["in"], error["parameter"], error["code"]) for error in listed]


def test_an_omitted_parameter_has_its_default(admin: httpx.Client) -> None:
    assert len(admin.get("/v1/users").json()["items"]) == 25
    assert len(admin.get("/v1/users?limit=100").json()["items"]) >= 30


@pytest.mark.parametrize("limit", [1, 2, 26, 30])
def test_a_limit_within_its_bounds_is_used(admin: httpx.Client, limit: int) -> None:
    assert len(admin.get("/v1/users", params={"limit": limit}).json()["items"]) == limit


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0", "minimum"),
        ("-1", "minimum"),
        ("101", "maximum"),
        ("9223372036854775807", "maximum"),
        ("99999999999999999999", "type"),
        *((text, "type") for text in ("", "x", "1.0", "1e1", "+1", "%201", "1%20", "01", "1_0")),
        *((text, "type") for text in ("%D9%A1", "0x10", "null", "[1]", "1,2", "true")),
        ("1%00", "encoding"),
        ("1%0A", "encoding"),
    ],
)
def test_an_invalid_limit_is_named(admin: httpx.Client, text: str, code: str) -> None:
    assert errors(admin.get(f"/v1/users?limit={text}")) == [("query", "limit", code)]


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("active=True", ("query", "active", "type")),
        ("active=1", ("query", "active", "type")),
        ("active=", ("query", "active", "type")),
        ("active=CANARY", ("query", "active", "type")),
        ("role=root", ("query", "role", "enum")),
        ("role=USER", ("query", "role", "enum")),
        ("role=", ("query", "role", "enum")),
        ("role=CANARY", ("query", "role", "enum")),
        ("limit=1&limit=1", ("query", "limit", "repeated")),
        ("active=true&limit=1&active=true", ("query", "active", "repeated")),
        ("lim%69t=1&limit=1", ("query", "limit", "repeated")),
        ("cursor=CANARY", ("query", "cursor", "cursor")),
        ("cursor=a%20b", ("query", "cursor", "pattern")),
        ("cursor=", ("query", "cursor", "minLength")),
        ("CANARY=1", ("query", "", "unknown")),
        ("Limit=1", ("query", "", "unknown")),
        ("limit[]=1", ("query", "", "unknown")),
        ("limit%20=1", ("query", "", "unknown")),
        ("CANARY", ("query", "", "unknown")),
        ("=1", ("query", "", "unknown")),
        ("limit=%", ("query", "", "encoding")),
        ("limit=%F", ("query", "", "encoding")),
        ("%zz=1", ("query", "", "encoding")),
        ("role=%FF", ("query", "", "encoding")),
        ("role=%ED%A0%80", ("query", "", "encoding")),
    ],
)
def test_query_violations_are_named_and_not_repeated(
    service: Service, admin: httpx.Client, query: str, fault: tuple[str, str, str]
) -> None:
    answer = admin.get(f"/v1/users?{query}")
    assert errors(answer) == [fault]
    assert "CANARY" not in answer.text
    # Raw, because clients mend what they send.
    authorization = f"Authorization: {admin.headers['authorization']}"
    assert get_raw(service, f"/v1/users?{query}", authorization).status == 400


def test_all_violations_are_listed_at_once(admin: httpx.Client) -> None:
    query = "limit=0&active=x&role=x&more=1&more=2"
    assert sorted(errors(admin.get(f"/v1/users?{query}"))) == [
        ("query", "", "unknown"),
        ("query", "active", "type"),
        ("query", "limit", "minimum"),
        ("query", "role", "enum"),
    ]


@pytest.mark.parametrize("query", ["&&limit=1&", "limit=%31", "l%69mit=1", "limit=1&role=user"])
def test_equivalent_spellings_of_a_query_are_accepted(admin: httpx.Client, query: str) -> None:
    assert len(admin.get(f"/v1/users?{query}").json()["items"]) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/health", "/openapi.json", "/v1/currencies")),
        *(("POST", path) for path in ("/v1/users", "/v1/auth/token")),
    ],
)
def test_an_operation_without_query_parameters_accepts_none(
    client: httpx.Client, method: str, path: str
) -> None:
    answer = client.request(method, f"{path}?canary=1")
    assert errors(answer) == [("query", "", "unknown")]
    assert "canary" not in answer.text


@pytest.mark.parametrize(
    "text", ["a", "0198c1a2-7b3c-7def-8123-456789abcdef", "A.b_c-9", "x" * 128]
)
def test_a_request_id_is_echoed(client: httpx.Client, text: str) -> None:
    for path in ("/health", "/none", "/v1/divide", "/v1/profile"):
        answer = client.get(path, headers={"X-Request-ID": text})
        assert answer.headers[REQUEST_ID] == text
        if answer.status_code >= 400:
            assert answer.json()["instance"] == text


def test_a_request_without_an_id_gets_one(client: httpx.Client) -> None:
    ids = {client.get("/health").headers[REQUEST_ID] for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch("[0-9a-f]{32}", text) for text in ids)


@pytest.mark.parametrize(
    "text", ["", "a b", "CANARY\u00e9", "a/CANARY", "<CANARY>", "x" * 129, "~"]
)
def test_an_invalid_request_id_is_refused_and_replaced(client: httpx.Client, text: str) -> None:
    answer = client.get("/health", headers=[(b"X-Request-ID", text.encode("latin-1"))])
    [(place, name, code)] = errors(answer)
    assert (place, name) == ("header", "X-Request-ID")
    assert code in ("pattern", "maxLength", "minLength")
    assert re.fullmatch("[0-9a-f]{32}", answer.headers[REQUEST_ID])
    assert "CANARY" not in answer.text


@pytest.mark.parametrize("name", ["X-Request-ID", "Authorization", "Content-Type", "Origin"])
def test_a_single_valued_header_cannot_be_repeated(client: httpx.Client, name: str) -> None:
    answer = client.get("/health", headers=[(name, "CANARY"), (name.lower(), "CANARY")])
    assert (answer.status_code, problem(answer)) == (400, "malformed-request")
    assert name == "X-Request-ID" or "CANARY" not in answer.text


@pytest.mark.parametrize(
    "name", ["Accept", "If-None-Match", "Cookie", "Via", "tracestate", "X-Unheard-Of"]
)
def test_a_list_header_may_be_split(client: httpx.Client, name: str) -> None:
    pieces = {"Accept": ("text/html", "application/json"), "If-None-Match": ('"a"', '"b"')}
    one, other = pieces.get(name, ("a=1", "b=2"))
    assert client.get("/openapi.json", headers=[(name, one), (name, other)]).status_code == 200


@pytest.mark.parametrize("text", ["abc", '"a', "", '"a" "b"', '*, "a"'])
def test_an_invalid_declared_header_is_named(client: httpx.Client, text: str) -> None:
    answer = client.get("/openapi.json", headers={"If-None-Match": text})
    assert {fault[:2] for fault in errors(answer)} == {("header", "If-None-Match")}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_authorization_scheme_is_case_insensitive(service: Service, scheme: str) -> None:
    user = make_account(service)
    headers = {"Authorization": f"{scheme} {token_for(service, user)}"}
    answer = service.client().get("/v1/profile", headers=headers)
    assert answer.json()["id"] == user.id


def test_undeclared_headers_are_ignored(client: httpx.Client) -> None:
    odd = {"X-Limit": "1", "Limit": "0", "X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/"}
    assert client.get("/health", headers=odd).json() == {"status": "ok"}
