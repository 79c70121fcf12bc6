"""The media type of a response, chosen by `Accept` (RFC 9110, section 12.5.1)."""

import time

import httpx
import pytest

from tests.api.answers import problem
from tests.api.resources import DECLARED

pytestmark = pytest.mark.mission("M7")

JSON, HTML = "application/json", "text/html"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


def represented(client: httpx.Client, accept: str, path: str = "/problems") -> str:
    """The media type of the answer, or the word for 406."""
    answer = client.get(path, headers={"Accept": accept})
    if answer.status_code == 406:
        assert problem(answer) == "not-acceptable"
        return "none"
    assert answer.status_code == 200
    return answer.headers["content-type"].partition(";")[0]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/*", JSON),
        ("text/html", HTML),
        ("text/*", HTML),
        ("TEXT/HTML", HTML),
        (BROWSER, HTML),
        ("application/json, text/html", JSON),
        ("text/html, application/json", JSON),
        ("text/html;q=0.4, application/json;q=0.5", JSON),
        ("text/html;q=0.5, application/json;q=0.4", HTML),
        ("text/html; q=0.5 , application/json ; q=0.4", HTML),
        ("text/html, application/json;q=0.999", HTML),
        ("text/html;q=0, */*", JSON),
        ("application/json;q=0, */*;q=0.1", HTML),
        ("application/*;q=0, text/html;q=0.001", HTML),
        ("*/*;q=0.1, text/html", HTML),
        ("text/*;q=0.1, */*", JSON),
        ("image/png, text/html", HTML),
        ("application/json;charset=utf-8", JSON),
        ("text/html;level=1", HTML),
        (",", JSON),
        (", ,", JSON),
        (", text/html,", HTML),
        (",image/png,", "none"),
        ("image/png", "none"),
        ("application/problem+json", JSON),
        ("application/problem+json,", JSON),
        ("application/problem+json;q=0", "none"),
        ("application/problem+json, image/png", "none"),
        ("application/problem+json, text/html", HTML),
        ("application/xml", "none"),
        ("*/*;q=0", "none"),
        ("application/json;q=0, text/html;q=0.0", "none"),
    ],
)
def test_the_preferred_representation_is_sent(
    client: httpx.Client, accept: str, media_type: str
) -> None:
    assert represented(client, accept) == media_type


def test_without_accept_any_media_type_is_sent(client: httpx.Client) -> None:
    request = client.build_request("GET", "/problems")
    del request.headers["accept"]
    assert client.send(request).headers["content-type"] == JSON


@pytest.mark.parametrize(
    "accept",
    [
        *("CANARY", ",", ";", ";q=1", "/", "text", "text/", "/html", "text/html/more", "a/b;q=x"),
        *("application/json;q=2", "application/json;q=-1", "application/json;q=nan", "*/json"),
        *('application/json;q="1"', "application/json;q=1.0000", "q=1", "<CANARY>", "\u00e9/*"),
        *("," * 5000, "a/b," * 3000, ";q=" * 5000, "*/*;q=0." + "9" * 5000, "a/json;" * 900),
    ],
)
def test_a_malformed_accept_is_refused_quickly_and_not_repeated(
    client: httpx.Client, accept: str
) -> None:
    began = time.monotonic()
    answer = client.get("/health", headers=[(b"Accept", accept.encode("latin-1"))])
    assert time.monotonic() - began < 2
    assert answer.status_code in (200, 406)
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    "path", ["/health", "/v1/divide?a=1&b=2", "/docs", "/openapi.json", "/docs/swagger-ui.css"]
)
def test_an_unavailable_media_type_is_not_acceptable(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Accept": "image/webp"})
    assert (answer.status_code, problem(answer)) == (406, "not-acceptable")
    assert "available as " in answer.json()["detail"]


@pytest.mark.parametrize("path", sorted(DECLARED))
def test_a_problem_is_sent_whatever_the_client_accepts(client: httpx.Client, path: str) -> None:
    answer = client.request("TRACE", path, headers={"Accept": "image/png"})
    assert (answer.status_code, problem(answer)) == (405, "method-not-allowed")


def test_an_unacceptable_response_prevents_the_change(client: httpx.Client) -> None:
    person = {"name": "Ada", "email": "negotiation@concord.example"}
    refused = client.post("/v1/users", json=person, headers={"Accept": "text/html"})
    assert refused.status_code == 406
    assert client.post("/v1/users", json=person).status_code == 201


@pytest.mark.parametrize("accept", [JSON, HTML])
def test_vary_names_what_the_response_depends_on(client: httpx.Client, accept: str) -> None:
    for path in ("/problems", "/problems/not-found"):
        answer = client.get(path, headers={"Accept": accept})
        assert "accept" in answer.headers["vary"].lower()
        tag = answer.headers["etag"]
        again = client.get(path, headers={"Accept": accept, "If-None-Match": tag})
        other = client.get(
            path, headers={"Accept": HTML if accept == JSON else JSON, "If-None-Match": tag}
        )
        assert (again.status_code, other.status_code) == (304, 200)
        assert again.headers["vary"] == answer.headers["vary"]
