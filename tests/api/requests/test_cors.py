"""Scripts of other origins: refused by default, allowed by the settings (Fetch, section 3.2)."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.resources import ALLOW
from tests.databases import make_database_url
from tests.service import running

pytestmark = pytest.mark.mission("M21")

ORIGIN, OTHER = "https://app.example", "http://localhost:3000"
STRANGERS = (
    *("https://evil.example", "null", "*", "", "https://app.example.evil.example"),
    *("https://app.example:8443", "http://app.example", "https://APP.example", "app.example"),
    *("https://app.example/", "https://xapp.example", "https://app.example, https://evil.example"),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service that scripts of two origins may use."""
    folder = tmp_path_factory.mktemp("cors")
    settings = {"CORS_ORIGINS": f"{ORIGIN}, {OTHER}"}
    with make_database_url("sqlite", folder) as url, running(folder, url, **settings) as service:
        yield service.client()


def preflight(client: httpx.Client, path: str, method: str = "PATCH", **more: str) -> httpx.Headers:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": method, **more}
    answer = client.options(path, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    return answer.headers


def granted(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


def varies(headers: httpx.Headers) -> set[str]:
    return {name.strip().lower() for name in headers.get("vary", "").split(",")}


@pytest.mark.parametrize("path", ["/health", "/v1/profile", "/none", "/v1/divide"])
def test_no_origin_is_allowed_by_default(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Origin": ORIGIN})
    assert granted(answer.headers) == {}
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    assert granted(client.options(path, headers=asked).headers) == {}


@pytest.mark.parametrize("origin", [ORIGIN, OTHER])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/v1/divide"),
        ("GET", "/v1/profile"),
        ("GET", "/none"),
        ("PUT", "/health"),
        ("POST", "/v1/users"),
    ],
)
def test_an_allowed_origin_may_read_every_response_and_error(
    shared: httpx.Client, origin: str, method: str, path: str
) -> None:
    headers = shared.request(method, path, headers={"Origin": origin}).headers
    assert headers["access-control-allow-origin"] == origin
    assert "origin" in varies(headers)
    # Tokens come in a header that scripts set; no browser is to send cookies along.
    assert "access-control-allow-credentials" not in headers


def test_scripts_may_read_the_headers_that_the_contract_declares(shared: httpx.Client) -> None:
    headers = shared.get("/health", headers={"Origin": ORIGIN}).headers
    exposed = {name.strip().lower() for name in headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"etag", "location", "link", "ratelimit", "retry-after", "x-request-id"}


def test_one_vary_header_lists_all_request_headers(shared: httpx.Client) -> None:
    varying = {"/health": "Origin", "/problems": "Accept, Origin", "/none": "Origin"}
    for path, names in {**varying, "/v1/products": "Authorization, Origin"}.items():
        for headers in ({}, {"Origin": ORIGIN}, {"Origin": "https://evil.example"}):
            answer = shared.get(path, headers=headers)
            assert answer.headers.get_list("vary") == [names]


@pytest.mark.parametrize("origin", STRANGERS)
def test_an_unknown_origin_is_allowed_nothing(shared: httpx.Client, origin: str) -> None:
    answer = shared.get("/health", headers={"Origin": origin})
    assert (answer.status_code, granted(answer.headers)) == (200, {})
    # A cache must not hand this answer to one who is allowed.
    assert "origin" in varies(answer.headers)
    asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
    assert granted(shared.options("/v1/profile", headers=asked).headers) == {}


def test_responses_without_an_origin_also_vary_by_origin(shared: httpx.Client) -> None:
    assert "origin" in varies(shared.get("/health").headers)
    assert {"accept", "origin"} <= varies(shared.get("/problems").headers)


@pytest.mark.parametrize("path", ALLOW)
def test_a_preflight_lists_the_methods_of_the_path(shared: httpx.Client, path: str) -> None:
    headers = preflight(shared, path)
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-methods"] == headers["allow"] == ALLOW[path]
    assert 0 < int(headers["access-control-max-age"]) <= 86400
    assert "access-control-allow-credentials" not in headers


def test_a_preflight_lists_the_headers_that_operations_read(shared: httpx.Client) -> None:
    wanted = {"Access-Control-Request-Headers": "authorization,content-type,x-anything"}
    headers = preflight(shared, "/v1/profile", **wanted)
    allowed = {name.strip().lower() for name in headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "if-match", "x-request-id"} <= allowed
    assert "x-anything" not in allowed
    assert "*" not in allowed


def test_options_without_a_preflight_gets_no_cors_headers(shared: httpx.Client) -> None:
    headers = shared.options("/v1/profile", headers={"Origin": ORIGIN}).headers
    assert "access-control-allow-methods" not in headers


def test_a_preflight_of_a_path_that_does_not_exist_is_404(shared: httpx.Client) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    answer = shared.options("/none", headers=asked)
    assert answer.status_code == 404
    assert answer.headers["access-control-allow-origin"] == ORIGIN
