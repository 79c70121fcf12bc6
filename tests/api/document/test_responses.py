"""Responses match the contract: media types, headers, and empty bodies."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import httpx
import pytest

from api.contract.ports import Content
from models.errors import DomainError, ImpossibleDivision, VersionMismatch, WeakPassword
from models.identity.user import User
from models.storage.database import Database
from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import fresh_email, make_account
from tests.service import Service, running

pytestmark = pytest.mark.mission("M7")

REVALIDATE, NO_STORE, VERSION = "public, no-cache", "no-store", "no-store, no-transform"


@pytest.fixture
def caller(service: Service) -> Mapping[str, str]:
    return bearer(token_for(service, make_account(service)))


@pytest.mark.parametrize(
    ("path", "media_type", "caching", "has_tag"),
    [
        ("/health", "application/json", NO_STORE, False),
        ("/health/ready", "application/json", NO_STORE, False),
        ("/v1/divide?a=1&b=2", "application/json", NO_STORE, False),
        ("/v1/profile", "application/json", VERSION, True),
        ("/v1/products", "application/json", "private, no-cache", True),
        ("/problems", "application/json", REVALIDATE, True),
        ("/problems/not-found", "application/json", REVALIDATE, True),
        ("/docs", "text/html; charset=utf-8", REVALIDATE, True),
        ("/docs/guides/errors", "text/html", REVALIDATE, True),
        ("/docs/swagger-ui.css", "text/css", REVALIDATE, True),
        ("/docs/docs.js", "text/javascript", REVALIDATE, True),
        ("/docs/favicon-32x32.png", "image/png", REVALIDATE, True),
        ("/docs/order-states.svg", "image/svg+xml", REVALIDATE, True),
        ("/openapi.json", "application/json", REVALIDATE, True),
        ("/openapi-3.1.json", "application/json", REVALIDATE, True),
        ("/openapi.yaml", "application/yaml", REVALIDATE, True),
    ],
)
def test_a_response_has_its_declared_type_and_headers(
    client: httpx.Client,
    caller: Mapping[str, str],
    path: str,
    media_type: str,
    caching: str,
    *,
    has_tag: bool,
) -> None:
    answer = client.get(path, headers=caller)
    assert answer.status_code == 200
    assert answer.headers["content-type"] in (media_type, f"{media_type}; charset=utf-8")
    assert answer.headers["cache-control"] == caching
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert ("etag" in answer.headers) is has_tag
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    if has_tag:
        again = client.get(path, headers={**caller, "If-None-Match": answer.headers["etag"]})
        assert_is_not_modified(again, answer)


def assert_is_not_modified(again: httpx.Response, before: httpx.Response) -> None:
    """304 has what would be sent of caching with 200, and nothing of a body (RFC 9110, 15.4.5)."""
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "cache-control", "vary"):
        assert again.headers.get(name) == before.headers.get(name)
    assert "content-type" not in again.headers
    assert "content-length" not in again.headers


def test_json_values_have_the_declared_types(service: Service, client: httpx.Client) -> None:
    user = make_account(service, name="Zoë \u5f20")
    account = client.get("/v1/profile", headers=bearer(token_for(service, user))).json()
    assert account == {
        "id": user.id,
        "name": "Zoë \u5f20",
        "email": user.email,
        "role": "user",
        "active": True,
        "email_verified": False,
        "password_change_required": False,
        "avatar": None,
        "created_at": user.created_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "updated_at": account["updated_at"],
    }
    assert account["created_at"].endswith("Z")


def test_a_creation_returns_location_and_resource(client: httpx.Client) -> None:
    created = client.post("/v1/users", json={"name": "Ada", "email": fresh_email()})
    assert created.status_code == 201
    assert created.headers["content-type"] == "application/json"
    assert created.headers["etag"] == '"1"'
    path = f"/v1/users/{created.json()['id']}"
    assert created.headers["location"] == f"http://concord.example{path}"


def test_a_deletion_has_no_response_body(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    headers = bearer(token_for(service, user))
    answer = client.delete(f"/v1/users/{user.id}", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers
    assert "content-length" not in answer.headers
    # The connection goes on: nobody waits for a body.
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("field", ['"none"', 'W/"none", "other"', '""'])
def test_a_different_etag_gets_the_full_response(client: httpx.Client, field: str) -> None:
    assert client.get("/openapi.json", headers={"If-None-Match": field}).status_code == 200


@pytest.mark.parametrize("form", ["{}", "W/{}", '"a", {} ,"b"', "*"])
def test_an_etag_matches_in_any_form(client: httpx.Client, form: str) -> None:
    answer = client.get("/openapi.json")
    field = form.replace("{}", answer.headers["etag"])
    for method in ("GET", "HEAD"):
        again = client.request(method, "/openapi.json", headers={"If-None-Match": field})
        assert_is_not_modified(again, answer)


def test_a_changed_account_has_a_new_etag(service: Service, client: httpx.Client) -> None:
    headers = bearer(token_for(service, make_account(service)))
    tag = client.get("/v1/profile", headers=headers).headers["etag"]
    changed = client.patch("/v1/profile", json={"name": "Other"}, headers=headers)
    assert changed.headers["etag"] != tag
    again = client.get("/v1/profile", headers={**headers, "If-None-Match": tag})
    assert (again.status_code, again.headers["etag"]) == (200, changed.headers["etag"])


@contextmanager
def serving(tmp_path: Path, environment: str) -> Iterator[Service]:
    """A service that holds every answer against the contract, in an environment."""
    with make_database_url("sqlite", tmp_path) as url:
        with running(tmp_path, url):
            # The first start makes the key, which production asks for.
            pass
        settings = {"APP_ENV": environment, "RESPONSE_CHECK_SAMPLE": "1"}
        with running(tmp_path, url, **settings) as service:
            yield service


def violations(service: Service, operation: str) -> bool:
    return (
        f'concord_contract_violations_total{{operation="{operation}"}} 1.0'
        in service.app.metrics.text()
    )


BREACHES: Mapping[str, object] = {
    "a value that is not declared": lambda: {"status": "sick"},
    "a value of another type": lambda: {"status": 1},
    "a media type that is not declared": lambda: Content("text/plain", b"ok"),
    "a header that is not declared": lambda: Content(
        "application/json", b'{"status":"ok"}', {"X-Undeclared": "1"}
    ),
}


@pytest.mark.parametrize(
    ("error", "sent"),
    [(ImpossibleDivision, (422, "impossible-division")), (WeakPassword, (500, "internal-error"))],
)
def test_a_problem_of_an_undeclared_kind_fails_in_tests(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[DomainError],
    sent: tuple[int, str],
) -> None:
    def divide(*, a: float, b: float) -> NoReturn:
        raise error(f"{a} by {b}")

    monkeypatch.setattr("api.divide.divide", divide)
    with serving(tmp_path, "test") as service:
        answer = service.client().get("/v1/divide?a=1&b=2")
        assert (answer.status_code, problem(answer)) == sent


@pytest.mark.parametrize("breach", BREACHES)
def test_a_response_that_breaks_the_contract_fails_in_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breach: str
) -> None:
    monkeypatch.setattr("api.health.get_health", BREACHES[breach])
    with serving(tmp_path, "test") as service:
        answer = service.client().get("/health")
        assert (answer.status_code, problem(answer)) == (500, "internal-error")
        assert violations(service, "get_health")


def test_an_undeclared_status_fails_in_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_health() -> None:
        raise VersionMismatch

    monkeypatch.setattr("api.health.get_health", get_health)
    with serving(tmp_path, "development") as service:
        assert service.client().get("/health").status_code == 500
        assert violations(service, "get_health")


def test_production_sends_and_logs_a_response_that_breaks_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("api.health.get_health", lambda: {"status": "sick"})
    with serving(tmp_path, "production") as service:
        answer = service.client().get("/health", headers={"X-Request-ID": "the-request"})
        assert (answer.status_code, answer.json()) == (200, {"status": "sick"})
        assert violations(service, "get_health")
    [line] = [line for line in capsys.readouterr().err.splitlines() if "violated" in line]
    assert "get_health" in line
    assert "the-request" in line


def test_an_unserialisable_response_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = User.register

    def lose(*arguments: object, **more: object) -> object:
        user = register(*arguments, **more)  # type: ignore[arg-type]  # handed on as they came.
        return SimpleNamespace(id=user.id, version=1)

    monkeypatch.setattr(User, "register", lose)
    with serving(tmp_path, "test") as service:
        email = fresh_email()
        answer = service.client().post("/v1/users", json={"name": "Ada", "email": email})
        assert answer.status_code == 500
        assert not is_stored(service.app.database, email)


def is_stored(database: Database, email: str) -> bool:
    return database.transact(lambda session: User.by_email(session, email), write=False) is not None
