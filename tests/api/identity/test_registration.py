"""Registration: required members, and one account for each address (MISSION M11)."""

import sys
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from api.contract.compile.schemas import Validators
from models.errors import InvalidName
from models.identity.person_name import person_name
from tests.api.accounts import bearer, fresh_address, read_account
from tests.api.answers import problem
from tests.databases import make_database_url
from tests.factories import fresh_email, make_account
from tests.mailbox import wait_for
from tests.our_document import our_document
from tests.service import PASSWORD, Service, running

pytestmark = pytest.mark.mission("M11")

PATH = "/v1/users"
TWINS = [
    ("Ada.Lovelace{}@Concord.Example", "ada.lovelace{}@concord.example"),
    ("guest{}@strasse.example", "guest{}@xn--strae-oqa.example"),
    ("guest{}@straße.example", "guest{}@STRASSE.example"),
    ("jos\u00e9{}@concord.example", "jose\u0301{}@concord.example"),
    ("kelvin{}@concord.example", "\u212aelvin{}@concord.example"),
    ("ada{}@concord.example", "\uff21\uff44\uff41{}@concord.example"),
    ("milli{}@concord.example", "m\u0131ll\u0131{}@concord.example"),
    ("first{}@concord.example", "\ufb01rst{}@concord.example"),
]


def create(client: httpx.Client, **members: object) -> httpx.Response:
    """Register from an address that has registered nobody yet."""
    body = {"name": "Ada Lovelace", "email": fresh_email(), **members}
    return client.post(PATH, json=body, headers=fresh_address())


@pytest.mark.mission("M5")
def test_location_leads_to_the_new_account(client: httpx.Client) -> None:
    email = fresh_email()
    answer = create(client, email=email, password=PASSWORD)
    assert answer.status_code == 201
    account = answer.json()
    assert answer.headers["location"] == f"http://concord.example/v1/users/{account['id']}"
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert account == account | {
        "name": "Ada Lovelace",
        "email": email,
        "role": "user",
        "active": True,
        "email_verified": False,
    }
    assert set(account) == {
        *("id", "name", "email", "role", "active", "email_verified", "avatar"),
        *("password_change_required", "created_at", "updated_at"),
    }
    signed_in = client.post(
        "/v1/auth/token", json={"email": email, "password": PASSWORD}, headers=fresh_address()
    )
    headers = bearer(signed_in.json()["access_token"])
    found = client.get(urlsplit(answer.headers["location"]).path, headers=headers)
    assert found.json() == account
    assert found.headers["etag"] == answer.headers["etag"]


@pytest.mark.mission("M9")
def test_an_address_has_one_account(service: Service, client: httpx.Client) -> None:
    taken = make_account(service).email
    answer = create(client, email=taken)
    assert answer.status_code == 409
    assert problem(answer) == "email-taken"
    assert taken not in answer.text


@pytest.mark.parametrize(("first", "second"), TWINS)
@pytest.mark.parametrize("turn", [1, -1])
def test_the_twins_of_an_address_have_one_account(
    client: httpx.Client, first: str, second: str, turn: int
) -> None:
    number = fresh_email().partition("@")[0]
    given, twin = (first, second)[::turn]
    created = create(client, email=given.format(number))
    assert created.status_code == 201
    # The address is kept as it was given, and shown so.
    assert created.json()["email"] == given.format(number)
    assert create(client, email=twin.format(number)).status_code == 409


@pytest.mark.mission("M25")
def test_one_of_concurrent_registrations_of_an_address_succeeds(client: httpx.Client) -> None:
    for spellings in (["{}@concord.example"], ["{}@Concord.Example", "{}@concord.example"]):
        number = fresh_email().partition("@")[0]
        emails = [spellings[i % len(spellings)].format(number) for i in range(8)]
        with ThreadPoolExecutor(len(emails)) as pool:
            answers = list(pool.map(lambda email: create(client, email=email), emails))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


def test_an_account_without_a_password_cannot_be_signed_in_to(
    service: Service, client: httpx.Client
) -> None:
    created = create(client)
    assert created.status_code == 201
    assert read_account(service, created.json()["id"]).password_hash is None
    credentials = {"email": created.json()["email"], "password": PASSWORD}
    assert client.post("/v1/auth/token", json=credentials).status_code == 401


@pytest.mark.mission("M10")
@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": " "}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "a\u202eb"}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": None}, "/name"),
        ({"email": "nobody"}, "/email"),
        ({"email": "a@localhost"}, "/email"),
        ({"email": "a b@concord.example"}, "/email"),
        ({"email": "ada@concord.example\n"}, "/email"),
        ({"email": "\u0430da@concord.example"}, "/email"),
        ({"password": "short"}, "/password"),
        ({"password": "x" * 129}, "/password"),
        ({"password": None}, "/password"),
        ({"password": "password123"}, "/password"),
        ({"password": "my Concord password"}, "/password"),
        ({"email": "lovelace@concord.example", "password": "lovelace-1815"}, "/password"),
    ],
)
def test_an_invalid_account_is_unprocessable(
    client: httpx.Client, members: Mapping[str, object], pointer: str
) -> None:
    answer = create(client, **members)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    for value in members.values():
        assert not (isinstance(value, str) and len(value) > 3 and value in answer.text)


def test_names_and_passwords_are_counted_in_composed_characters(client: httpx.Client) -> None:
    name, password = "\u1ec7" * 100, "\u1ec7\u0151 grey owls sing " * 6
    sent = {"name": name, "password": f"{password:x<128}"}
    decomposed = {key: unicodedata.normalize("NFD", value) for key, value in sent.items()}
    answer = create(client, **decomposed)
    assert (answer.status_code, answer.json().get("name")) == (201, name)
    for key, value in decomposed.items():
        assert create(client, **decomposed | {key: f"{value}x"}).status_code == 422


@pytest.mark.parametrize("around", ["\t{} ", "\ufeff{}", "\u202a{}\u202c", "{}\u200b"])
def test_what_is_copied_along_with_an_address_is_ignored(client: httpx.Client, around: str) -> None:
    email = fresh_email()
    created = create(client, email=around.format(email), password=PASSWORD)
    assert (created.status_code, created.json()["email"]) == (201, email)
    credentials = {"email": around.format(email), "password": PASSWORD}
    signed_in = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    assert signed_in.status_code == 200


@pytest.mark.parametrize("name", ["a\u202eb", "a\nb", "\u3000", "\ufeff"])
def test_the_message_says_what_is_wrong_with_a_name(client: httpx.Client, name: str) -> None:
    [error] = create(client, name=name).json()["errors"]
    assert error["message"].startswith("must have a visible character, and no control characters")


def test_a_name_that_is_accepted_can_be_returned() -> None:
    bundle = our_document().bundle
    sent, shown = (Validators(bundle).component(name) for name in ("NewPersonName", "PersonName"))
    for code in range(sys.maxunicode + 1):
        for name in (f"{chr(code)}a", f"a{chr(code)}b"):
            if "\ud800" <= chr(code) <= "\udfff" or not sent.is_valid(name):
                continue
            with suppress(InvalidName):
                assert shown.is_valid(person_name(name)), ascii(name)


@pytest.mark.mission("M10")
def test_missing_members_are_named(client: httpx.Client) -> None:
    answer = client.post(PATH, json={"password": PASSWORD}, headers=fresh_address())
    assert answer.status_code == 422
    assert sorted(answer.json()["missing_fields"]) == ["email", "name"]


def test_addresses_of_internal_networks_are_a_setting(tmp_path: Path) -> None:
    email = "J\u00fcrgen@Corp.Local"
    with make_database_url("sqlite", tmp_path) as url:
        with running(tmp_path, url) as service:
            assert create(service.client(), email=email).status_code == 422
        with running(tmp_path, url, ALLOW_LOCAL_EMAIL="true") as service:
            client = service.client()
            assert create(client, email=email, password=PASSWORD).json()["email"] == email
            assert create(client, email=email.upper()).status_code == 409
            credentials = {"email": email.lower(), "password": PASSWORD}
            assert client.post("/v1/auth/token", json=credentials).status_code == 200
            assert wait_for(tmp_path / "mail", email, "welcome")
