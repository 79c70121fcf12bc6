"""Every error is a problem (RFC 9457) whose type is a page, and a bug reveals no details."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from api.contract import engine_errors as request_errors
from api.contract.ports import Content
from api.server.http1 import refusals
from api.server.http1.refusals import Refusal
from api.server.problem_documents import Problems
from models import errors as domain_errors
from models.identity.user import User
from tests.api.accounts import bearer, token_for
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import make_account
from tests.our_document import our_document
from tests.service import Service, running

pytestmark = pytest.mark.mission("M8")

DOCUMENT = our_document()
KINDS = DOCUMENT.problems
SLUGS = list(KINDS)
JSON_TYPE = {"Content-Type": "application/json"}
MEMBERS = {"type", "title", "status", "detail", "instance"}


class BreakageError(RuntimeError):
    """A bug: nobody means to raise this."""


def break_down(*_arguments: object, **_more: object) -> NoReturn:
    raise BreakageError("CANARY at models.identity.user line 1")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an account is a bug while the test runs."""
    monkeypatch.setattr("api.users.view_user", break_down)
    monkeypatch.setattr(User, "visible_to", break_down)


def person(service: Service) -> dict[str, str]:
    return bearer(token_for(service, make_account(service)))


PROVOKED: dict[int, Callable[[Service, httpx.Client], httpx.Response]] = {
    400: lambda _, client: client.get("/v1/divide"),
    401: lambda _, client: client.get("/v1/profile"),
    403: lambda service, client: client.get("/v1/users", headers=person(service)),
    404: lambda _, client: client.get("/none"),
    405: lambda _, client: client.delete("/health"),
    406: lambda _, client: client.get("/health", headers={"Accept": "image/png"}),
    409: lambda service, client: client.post(
        "/v1/users", json={"name": "Ada", "email": make_account(service).email}
    ),
    412: lambda service, client: client.patch(
        "/v1/profile", json={"name": "Ada"}, headers={**person(service), "If-Match": '"999"'}
    ),
    413: lambda _, client: client.post("/v1/users", content=b" " * 17_000_000, headers=JSON_TYPE),
    415: lambda _, client: client.post(
        "/v1/users", content=b"{}", headers={**JSON_TYPE, "Content-Encoding": "gzip"}
    ),
    422: lambda _, client: client.get("/v1/divide?a=1&b=0"),
}
"""A request for each status that a client can bring about; 429, 500 and 503 have tests below."""


@pytest.mark.parametrize("status", PROVOKED)
def test_every_error_is_a_problem(service: Service, client: httpx.Client, status: int) -> None:
    answer = PROVOKED[status](service, client)
    assert answer.status_code == status
    slug = problem(answer)
    assert slug in SLUGS
    members = answer.json()
    assert set(members) >= MEMBERS
    assert members["status"] == status
    assert members["type"] == f"http://concord.example/problems/{slug}"
    assert members["title"] == KINDS[slug].title
    assert members["detail"]
    assert answer.headers["cache-control"] == "no-store"
    assert client.get(f"/problems/{slug}").json()["status"] == status


@pytest.mark.parametrize("slug", SLUGS)
def test_the_type_of_a_problem_leads_to_its_page(client: httpx.Client, slug: str) -> None:
    path = f"/problems/{slug}"
    told = client.get(path).json()
    assert (told["slug"], told["type"]) == (slug, f"http://concord.example{path}")
    page = client.get(path, headers={"Accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for member in ("title", "type"):
        assert told[member] in page.text
    assert str(told["status"]) in page.text
    assert path in client.get("/problems", headers={"Accept": "text/html"}).text


def test_the_list_of_problems_is_complete(client: httpx.Client) -> None:
    listed = client.get("/problems").json()["items"]
    assert [each["slug"] for each in listed] == SLUGS
    for each in listed:
        assert all(each[text] for text in ("meaning", "when_sent", "what_to_do")), each["slug"]
    assert problem(client.get("/problems/no-such-problem")) == "not-found"


def named_errors(
    *roots: type[Exception],
) -> Iterator[type[Exception]]:
    """Yield the errors that have names, in whatever module they are."""
    for each in roots or (request_errors.RequestError, domain_errors.DomainError):
        if each.__module__.startswith(("api.", "models.")):
            yield each
            if each.__subclasses__():
                yield from named_errors(*each.__subclasses__())


@pytest.mark.mission("M9")
def test_every_kind_of_problem_is_sent() -> None:
    problems = Problems("http://concord.example", KINDS)
    errors = (error.__new__(error) for error in named_errors())
    by_errors = {problems.kind_of(error) for error in errors} | {problems.kind_of(ValueError())}
    by_server = {each.slug for each in vars(refusals).values() if isinstance(each, Refusal)}
    assert by_errors | by_server == set(KINDS)


@pytest.mark.mission("M9")
def test_every_named_error_is_in_the_table() -> None:
    problems = Problems("http://concord.example", KINDS)
    # The two roots are never raised; who has gone is not answered.
    unmapped = {"RequestError", "DomainError", "ClientGone"}
    found = {error.__name__ for error in named_errors() if problems.is_bug(error.__new__(error))}
    assert found == unmapped


@pytest.mark.mission("M9")
def test_a_domain_error_has_its_detail_and_members(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> NoReturn:
        raise domain_errors.NotFound("There is no such thing here.", left=1, near=["b", "c"])

    monkeypatch.setattr("api.users.view_user", refuse)
    answer = client.get("/v1/users/1", headers=person(service))
    assert answer.status_code == 404
    members = answer.json()
    assert members["detail"] == "There is no such thing here."
    assert (members["left"], members["near"]) == (1, ["b", "c"])


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/users/1"), ("HEAD", "/v1/users/1"), ("PATCH", "/v1/profile")],
)
def test_a_bug_is_a_problem_without_details(
    service: Service, client: httpx.Client, method: str, path: str
) -> None:
    body = {"name": "CANARY"} if method == "PATCH" else None
    answer = client.request(method, path, headers=person(service), json=body)
    assert answer.status_code == 500
    assert "CANARY" not in answer.text + str(answer.headers)
    if method != "HEAD":
        assert problem(answer) == "internal-error"
        assert set(answer.json()) <= {*MEMBERS, "code"}
        assert "Traceback" not in answer.text


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("environment", ["test", "production"])
def test_a_bug_is_logged_once_with_its_traceback_and_request_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], environment: str
) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        with running(tmp_path, url):
            # The first start makes the key, which production asks for.
            pass
        capsys.readouterr()
        with running(tmp_path, url, APP_ENV=environment) as service:
            headers = {**person(service), "X-Request-ID": "the-request"}
            assert service.client().get("/v1/profile", headers=headers).status_code == 500
            assert service.client().get("/health").status_code == 200
        log = capsys.readouterr().err
    assert log.count("Traceback (most recent call last)") == 1
    assert log.count("BreakageError: CANARY") == 1
    [line] = [line for line in log.splitlines() if "request failed" in line]
    assert "the-request" in line
    assert "get_profile" in line
    if environment == "production":
        event = json.loads(line)
        assert event["request_id"] == "the-request"
        assert event["exception"].endswith("BreakageError: CANARY at models.identity.user line 1")


@pytest.mark.usefixtures("broken")
def test_a_bug_affects_neither_connection_nor_service(
    service: Service, client: httpx.Client
) -> None:
    headers = person(service)
    for _ in range(30):
        assert client.get("/v1/profile", headers=headers).status_code == 500
    assert client.get("/v1/divide?a=1&b=2").status_code == 200
    assert client.get("/v1/users", headers=headers).status_code == 403


def test_a_bug_outside_a_thread_is_a_problem_without_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_health() -> None:
        break_down()

    monkeypatch.setattr("api.health.get_health", get_health)
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url) as service:
        answer = service.client().get("/health")
        assert (answer.status_code, problem(answer)) == (500, "internal-error")
        assert "CANARY" not in answer.text


def test_an_unserialisable_response_is_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # No header can hold this character (RFC 9110, section 5.5), and nothing else looks at it.
    broken = Content("application/json", b'{"status":"ok"}', {"X-Price": "\u20ac CANARY"})
    monkeypatch.setattr("api.health.get_health", lambda: broken)
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, RESPONSE_CHECK_SAMPLE="0") as service,
    ):
        answer = service.client().get("/health", headers={"X-Request-ID": "the-request"})
        assert (answer.status_code, problem(answer)) == (500, "internal-error")
        assert "CANARY" not in answer.text
    [line] = [line for line in capsys.readouterr().err.splitlines() if "request failed" in line]
    assert "the-request" in line
