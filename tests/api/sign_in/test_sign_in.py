"""Signing in: the response to a success, and failures that reveal nothing (MISSION M13)."""

import threading
from collections.abc import Mapping

import argon2
import httpx
import jwt
import pytest

from models.identity.password import OWASP
from models.identity.permission import SCOPES_OF_ROLE
from tests.api.accounts import bearer, fresh_address, read_account
from tests.api.answers import problem
from tests.factories import fresh_email, make_account
from tests.service import PASSWORD, Service

pytestmark = pytest.mark.mission("M13")

PATH = "/v1/auth/token"


def sign_in(client: httpx.Client, email: str, password: str = PASSWORD) -> httpx.Response:
    """Try it from an address that has not tried before."""
    credentials = {"email": email, "password": password}
    return client.post(PATH, json=credentials, headers=fresh_address())


def test_a_sign_in_gives_a_bearer_token_for_an_hour(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    answer = sign_in(client, user.email)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    assert set(given) == {
        *("access_token", "token_type", "expires_in", "scope", "refresh_token", "session_id"),
    }
    assert given["token_type"] == "bearer"
    assert given["expires_in"] == 3600
    assert given["scope"] == " ".join(SCOPES_OF_ROLE["user"])
    profile = client.get("/v1/profile", headers=bearer(given["access_token"]))
    assert profile.json()["id"] == user.id


def test_the_token_is_an_access_token_of_rfc_9068(service: Service, client: httpx.Client) -> None:
    user = make_account(service, role="admin")
    tokens = [sign_in(client, user.email).json()["access_token"] for _ in range(2)]
    header = jwt.get_unverified_header(tokens[0])
    first, second = (jwt.decode(token, options={"verify_signature": False}) for token in tokens)
    assert set(header) == {"alg", "typ", "kid"}
    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert first["iss"] == "http://concord.example"
    assert first["sub"] == str(user.id)
    assert first["nbf"] == first["iat"]
    assert first["exp"] - first["iat"] == 3600
    assert "users:list" in first["scope"].split()
    assert first["jti"] != second["jti"]
    assert not {"email", "name", "role"} & set(first)


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, ["email", "password"]),
        ({"email": "ada@concord.example"}, ["password"]),
        ({"password": PASSWORD}, ["email"]),
    ],
)
def test_missing_members_are_named(
    client: httpx.Client, body: Mapping[str, str], missing: list[str]
) -> None:
    answer = client.post(PATH, json=body, headers=fresh_address())
    assert answer.status_code == 422
    assert problem(answer) == "invalid-body"
    assert sorted(answer.json()["missing_fields"]) == missing
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {f"/{name}" for name in missing}


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"email=ada%40concord.example&password=x", "application/json"),
        (b"email=ada%40concord.example&password=x", "text/plain"),
        (b'{"email": "ada@concord.example", "password": "x", "email": "b@c.example"}', None),
        (b'["ada@concord.example", "x"]', "application/json"),
        (b'{"email": "ada@concord.example", "password": 1}', "application/json"),
        (b'{"email": ["ada@concord.example"], "password": "x"}', "application/json"),
        (b'{"email": "ada@concord.example", "password": "x", "otp": "1"}', "application/json"),
        (b'{"email": "nobody", "password": "x"}', "application/json"),
        (b'{"email": "ada@concord.example", "password": ""}', "application/json"),
        (b'{"email": "ada@concord.example", "password": "\\ud800"}', "application/json"),
        (b'{"email": "ada@concord.example", "password": "\\u0000"}', "application/json"),
    ],
)
def test_invalid_credentials_are_unprocessable(
    client: httpx.Client, content: bytes, media_type: str | None
) -> None:
    headers = fresh_address() | {"Content-Type": media_type or "application/json"}
    answer = client.post(PATH, content=content, headers=headers)
    assert answer.status_code == 422
    assert problem(answer) == "invalid-body"
    assert answer.json()["errors"]
    assert "ada@" not in answer.text


def test_a_sign_in_upgrades_an_outdated_hash_once(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    assert user.password_hash is not None
    assert argon2.extract_parameters(user.password_hash) != OWASP
    assert sign_in(client, user.email, "wrong").status_code == 401
    assert read_account(service, user.id).password_hash == user.password_hash
    token = sign_in(client, user.email).json()["access_token"]
    renewed = read_account(service, user.id)
    assert renewed.password_hash is not None
    assert argon2.extract_parameters(renewed.password_hash) == OWASP
    # Nothing else has changed, and no session has ended.
    assert (renewed.version, renewed.updated_at) == (user.version, user.updated_at)
    assert sign_in(client, user.email).status_code == 200
    assert read_account(service, user.id).password_hash == renewed.password_hash
    assert client.get("/v1/profile", headers=bearer(token)).status_code == 200


def test_concurrent_sign_ins_upgrade_a_hash_without_errors(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(sign_in(client, user.email).status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8


@pytest.mark.parametrize(
    ("registered", "twin"),
    [
        ("Ada.Lovelace{}@Concord.Example", "ada.lovelace{}@concord.example"),
        ("grace{}@concord.example", "GRACE{}@CONCORD.EXAMPLE"),
        ("user{}@strasse.example", "user{}@xn--strae-oqa.example"),
    ],
)
def test_twins_of_an_email_address_sign_in_to_the_same_account(
    service: Service, client: httpx.Client, registered: str, twin: str
) -> None:
    number = fresh_email().partition("@")[0]
    user = make_account(service, email=registered.format(number))
    for email in (registered, twin):
        token = sign_in(client, email.format(number)).json()["access_token"]
        profile = client.get("/v1/profile", headers=bearer(token)).json()
        assert (profile["id"], profile["email"]) == (user.id, registered.format(number))


def test_dots_and_tags_of_addresses_distinguish_accounts(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    local, _, domain = user.email.partition("@")
    for other in (f"{local}+tag@{domain}", f"{local[0]}.{local[1:]}@{domain}"):
        assert sign_in(client, other).status_code == 401
