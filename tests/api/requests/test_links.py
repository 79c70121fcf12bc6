"""Links are built from the contract and from the headers of trusted proxies (M5)."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.databases import make_database_url
from tests.factories import fresh_email, make_account
from tests.pictures import make_picture
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


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service that believes what its proxy says of the host."""
    folder = tmp_path_factory.mktemp("behind-proxy")
    with (
        make_database_url("sqlite", folder) as url,
        running(folder, url, TRUST_FORWARDED_HOST="true") as service,
    ):
        yield service.client()


def location(client: httpx.Client, **fields: str) -> str:
    """Where a new account is said to be, without its number."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    answer = client.post("/v1/users", json={"name": "Ada", "email": fresh_email()}, headers=headers)
    assert answer.status_code == 201
    link, _, number = answer.headers["location"].rpartition("/")
    assert int(number) == answer.json()["id"]
    return link


def test_location_leads_to_the_created_resource(service: Service, client: httpx.Client) -> None:
    made = client.post("/v1/users", json={"name": "Ada", "email": fresh_email()})
    path = made.headers["location"].removeprefix(PUBLIC)
    admin = bearer(token_for(service, make_account(service, role="admin")))
    found = client.get(path, headers=admin)
    assert (found.status_code, found.json()) == (200, made.json())


def test_without_a_proxy_links_begin_with_the_public_url(client: httpx.Client) -> None:
    assert location(client) == f"{PUBLIC}/v1/users"
    assert location(client, Host="evil.example") == f"{PUBLIC}/v1/users"


def test_links_ignore_the_reported_host_by_default(service: Service, client: httpx.Client) -> None:
    for fields in ({}, {"Forwarded": "for=198.51.100.7;host=evil.example;proto=https"}):
        assert location(client, **LIES, **fields) == f"{PUBLIC}/v1/users"
        assert client.get("/", headers=LIES | fields).headers["location"] == f"{PUBLIC}/docs"
    admin = bearer(token_for(service, make_account(service, role="admin")))
    page = client.get("/v1/users?limit=1", headers={**admin, **LIES})
    assert page.links["next"]["url"].startswith(f"{PUBLIC}/v1/users?limit=1&cursor=")


def test_links_use_the_reported_host_if_it_is_trusted(behind_proxy: httpx.Client) -> None:
    sender = {"X_Forwarded_For": "198.51.100.7"}
    host = {"X_Forwarded_Host": "a.example:8443", "X_Forwarded_Proto": "https"}
    assert location(behind_proxy, **sender, **host) == "https://a.example:8443/v1/users"
    answer = behind_proxy.get("/", headers={"X-Forwarded-Host": "a.example"})
    assert answer.headers["location"] == "http://a.example/docs"


def test_the_forwarded_header_is_read_if_configured(tmp_path: Path) -> None:
    settings = {"FORWARDED_HEADER": "Forwarded", "TRUST_FORWARDED_HOST": "true"}
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, **settings) as service,
        httpx.Client(base_url=service.url, headers=LIES) as client,
    ):
        field = "for=198.51.100.7;host=a.example;proto=https"
        assert location(client, Forwarded=field) == "https://a.example/v1/users"
        assert location(client) == f"{PUBLIC}/v1/users"


def test_links_begin_with_the_path_of_the_public_url(tmp_path: Path) -> None:
    public = "https://shop.example/api"
    settings = {"PUBLIC_URL": f"{public}/", "TRUST_FORWARDED_HOST": "true"}
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, **settings) as service,
    ):
        client = service.client()
        assert location(client) == f"{public}/v1/users"
        host = {"X_Forwarded_Host": "b.example", "X_Forwarded_Proto": "https"}
        assert location(client, **host) == "https://b.example/api/v1/users"
        assert client.get("/").headers["location"] == f"{public}/docs"
        admin = bearer(token_for(service, make_account(service, role="admin")))
        png = admin | {"Content-Type": "image/png"}
        account = client.put("/v1/profile/avatar", content=make_picture(), headers=png).json()
        for file in account["avatar"].values():
            assert file["url"] == f"/api/v1/files/{file['path']}"
        page = client.get("/v1/users?limit=1", headers=admin)
        assert page.links["next"]["url"].startswith(f"{public}/v1/users?limit=1&cursor=")
        assert client.get("/v1/profile").json()["type"] == f"{public}/problems/not-authenticated"
        document = client.get("/openapi.json").json()
        assert [each["url"] for each in document["servers"]] == [public, "/api"]
        assert document["externalDocs"]["url"] == f"{public}/docs/guides/sdks"
        guide = "/docs/guides/orders"
        for path in ("/docs", "/confirm", guide, "/problems", "/problems/not-found"):
            text = client.get(path, headers={"Accept": "text/html"}).text
            links = re.findall('(?:href|src)="([^"]*)"', text)
            assert links
            assert [link for link in links if re.match("/(?!api/)", link)] == []


@pytest.mark.parametrize(
    "host", ["evil.example/x", "a@evil.example", "evil .example", "evil.example:x", "a" * 300, "\\"]
)
def test_an_invalid_host_is_not_repeated(behind_proxy: httpx.Client, host: str) -> None:
    assert location(behind_proxy, X_Forwarded_Host=host) == f"{PUBLIC}/v1/users"


@pytest.mark.mission("M22")
def test_a_client_cannot_hide_its_address_with_another_header(client: httpx.Client) -> None:
    sender = {"X-Forwarded-For": "198.51.100.77"}
    lies: tuple[dict[str, str], ...]
    lies = ({}, {"Forwarded": "for=6.6.6.6"}, {"Forwarded": "for=6.6.6.7;host=x, for=1.1.1.1"})
    counts = [
        client.get("/v1/divide?a=1&b=1", headers=sender | lie).headers["ratelimit"] for lie in lies
    ]
    assert [count.split(";")[1] for count in counts] == ["r=599", "r=598", "r=597"]


def test_headers_of_untrusted_peers_are_ignored(untrusting: Service) -> None:
    with httpx.Client(base_url=untrusting.url, headers=LIES) as client:
        assert location(client) == f"{PUBLIC}/v1/users"
        assert location(client, Forwarded="for=1.1.1.1;host=evil.example") == f"{PUBLIC}/v1/users"
        assert client.get("/").headers["location"] == f"{PUBLIC}/docs"


@pytest.mark.mission("M22")
def test_an_invented_address_is_not_counted(untrusting: Service) -> None:
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
def test_the_rightmost_untrusted_address_is_counted(service: Service) -> None:
    with httpx.Client(base_url=service.url) as client:
        left = [
            client.get("/v1/divide?a=1&b=1", headers={"X-Forwarded-For": senders}).headers
            for senders in ("6.6.6.6, 203.0.113.99", "7.7.7.7, 203.0.113.99", "203.0.113.98")
        ]
    assert [";r=599;" in headers["ratelimit"] for headers in left] == [True, False, True]
