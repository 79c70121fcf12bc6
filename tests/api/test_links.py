"""Links are built from the contract and from what trusted proxies say of the way here (M5)."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.accounts import bearer, fresh_email, make_account, token_for
from tests.databases import make_database_url
from tests.service import Service, running

pytestmark = pytest.mark.mission("M5")

PUBLIC = "http://concord.example"
LIES = {
    "X-Forwarded-For": "1.1.1.1",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/evil",
}


@pytest.fixture(scope="module")
def untrusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that is not behind any proxy."""
    folder = tmp_path_factory.mktemp("untrusting")
    with (
        make_database_url("sqlite", folder) as url,
        running(folder, url, TRUSTED_PROXIES="") as service,
    ):
        yield service


def location(client: httpx.Client, **fields: str) -> str:
    """Where a new account is said to be, without its number."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    answer = client.post("/v1/users", json={"name": "Ada", "email": fresh_email()}, headers=headers)
    assert answer.status_code == 201
    link, _, number = answer.headers["location"].rpartition("/")
    assert int(number) == answer.json()["id"]
    return link


def test_location_leads_to_what_was_made(service: Service, client: httpx.Client) -> None:
    made = client.post("/v1/users", json={"name": "Ada", "email": fresh_email()})
    path = made.headers["location"].removeprefix(PUBLIC)
    admin = bearer(token_for(service, make_account(service, role="admin")))
    found = client.get(path, headers=admin)
    assert (found.status_code, found.json()) == (200, made.json())


def test_without_a_word_of_the_proxy_links_begin_with_the_public_url(client: httpx.Client) -> None:
    assert location(client) == f"{PUBLIC}/v1/users"
    assert location(client, Host="evil.example") == f"{PUBLIC}/v1/users"


def test_links_begin_as_the_client_of_the_proxy_asked(client: httpx.Client) -> None:
    sender = {"X_Forwarded_For": "198.51.100.7"}
    host = {"X_Forwarded_Host": "a.example:8443", "X_Forwarded_Proto": "https"}
    assert location(client, **sender, **host) == "https://a.example:8443/v1/users"


def test_the_standard_header_says_the_same(service: Service) -> None:
    with httpx.Client(base_url=service.url) as client:
        field = "for=198.51.100.7;host=a.example;proto=https"
        assert location(client, Forwarded=field) == "https://a.example/v1/users"


@pytest.mark.parametrize(
    "host", ["evil.example/x", "a@evil.example", "evil .example", "evil.example:x", "a" * 300, "\\"]
)
def test_a_host_that_is_none_is_not_repeated(client: httpx.Client, host: str) -> None:
    assert location(client, X_Forwarded_Host=host) == f"{PUBLIC}/v1/users"


def test_headers_that_disagree_are_not_believed(client: httpx.Client) -> None:
    fields = {"X_Forwarded_For": "198.51.100.7", "X_Forwarded_Host": "evil.example"}
    standard = "for=198.51.100.7;host=a.example"
    assert location(client, **fields, Forwarded=standard) == f"{PUBLIC}/v1/users"


def test_the_link_to_the_next_page_begins_alike(service: Service, client: httpx.Client) -> None:
    make_account(service)
    admin = bearer(token_for(service, make_account(service, role="admin")))
    asked = {"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "https"}
    answer = client.get("/v1/users?limit=1", headers={**admin, **asked})
    assert answer.links["next"]["url"].startswith("https://a.example/v1/users?limit=1&cursor=")


def test_the_root_leads_on_alike(client: httpx.Client) -> None:
    answer = client.get("/", headers={"X-Forwarded-Host": "a.example"})
    assert answer.headers["location"] == "http://a.example/docs"


def test_nothing_is_believed_of_whom_nobody_trusts(untrusting: Service) -> None:
    with httpx.Client(base_url=untrusting.url, headers=LIES) as client:
        assert location(client) == f"{PUBLIC}/v1/users"
        assert location(client, Forwarded="for=1.1.1.1;host=evil.example") == f"{PUBLIC}/v1/users"
        assert client.get("/").headers["location"] == f"{PUBLIC}/docs"


@pytest.mark.mission("M22")
def test_an_address_that_the_client_made_up_is_not_counted_for(untrusting: Service) -> None:
    with httpx.Client(base_url=untrusting.url) as client:
        left = [
            client.get(
                "/v1/divide?a=1&b=1", headers={"X-Forwarded-For": f"1.1.1.{number}"}
            ).headers["ratelimit"]
            for number in range(3)
        ]
    counts = [int(field.partition(";r=")[2].partition(";")[0]) for field in left]
    assert counts == [counts[0], counts[0] - 1, counts[0] - 2]


@pytest.mark.mission("M22")
def test_behind_a_proxy_the_rightmost_stranger_is_counted(service: Service) -> None:
    with httpx.Client(base_url=service.url) as client:
        left = [
            client.get("/v1/divide?a=1&b=1", headers={"X-Forwarded-For": senders}).headers
            for senders in ("6.6.6.6, 203.0.113.99", "7.7.7.7, 203.0.113.99", "203.0.113.98")
        ]
    assert [";r=599;" in headers["ratelimit"] for headers in left] == [True, False, True]
