"""Signing in: what a good sign-in gives, and that a bad one tells nothing (MISSION M13)."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import argon2
import httpx
import jwt
import pytest

from models.password import OWASP
from models.user import User
from tests.api.accounts import (
    bearer,
    edit_account,
    fresh_address,
    fresh_email,
    make_account,
    read_account,
)
from tests.api.answers import comparable, problem
from tests.service import PASSWORD, Service

pytestmark = pytest.mark.mission("M13")

PATH = "/v1/auth/token"


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def sign_in(client: httpx.Client, email: str, password: str = PASSWORD) -> httpx.Response:
    """Try it from an address that has not tried before."""
    credentials = {"email": email, "password": password}
    return client.post(PATH, json=credentials, headers=fresh_address())


def test_a_sign_in_gives_a_bearer_token_for_an_hour(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    answer = sign_in(client, user.email)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    assert set(given) == {"access_token", "token_type", "expires_in", "scope"}
    assert given["token_type"] == "bearer"
    assert given["expires_in"] == 3600
    assert given["scope"] == "profile:read profile:write users:read users:write"
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
        (b"email=ada%40concord.example&password=x", "application/x-www-form-urlencoded"),
        (b'{"email": "ada@concord.example", "password": "x"}', "text/plain"),
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
def test_a_body_that_is_no_credentials_is_unprocessable(
    client: httpx.Client, content: bytes, media_type: str | None
) -> None:
    headers = fresh_address() | {"Content-Type": media_type or "application/json"}
    answer = client.post(PATH, content=content, headers=headers)
    assert answer.status_code == 422
    assert problem(answer) == "invalid-body"
    assert answer.json()["errors"]
    assert "ada" not in answer.text


Failing: TypeAlias = Callable[[Service], tuple[str, str]]


def _disabled(service: Service) -> tuple[str, str]:
    user = make_account(service)
    edit_account(service, user.id, lambda session, row: row.change(session, active=False))
    return user.email, PASSWORD


def _deleted(service: Service) -> tuple[str, str]:
    user = make_account(service)
    edit_account(service, user.id, lambda session, row: row.erase(session))
    return user.email, PASSWORD


FAILING: Mapping[str, Failing] = {
    "unknown email": lambda _: (fresh_email(), PASSWORD),
    "wrong password": lambda service: (make_account(service).email, "another password"),
    "disabled account": _disabled,
    "disabled account and wrong password": lambda service: (_disabled(service)[0], "another"),
    "deleted account": _deleted,
    "account without a password": lambda service: (
        make_account(service, password_hash=None).email,
        PASSWORD,
    ),
    "password in other case": lambda service: (make_account(service).email, PASSWORD.upper()),
    "password cut short": lambda service: (make_account(service).email, PASSWORD[:-1]),
    "password with more behind it": lambda service: (make_account(service).email, PASSWORD + " "),
    "longest password": lambda service: (make_account(service).email, "x" * 1024),
    "address of an erased account": lambda _: ("1@erased.invalid", PASSWORD),
}


@pytest.mark.parametrize("reason", FAILING)
def test_a_failed_sign_in_does_not_tell_why(
    service: Service, client: httpx.Client, reason: str
) -> None:
    unknown = sign_in(client, *FAILING["unknown email"](service))
    answer = sign_in(client, *FAILING[reason](service))
    assert answer.status_code == 401
    assert problem(answer) == "wrong-credentials"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert comparable(answer) == comparable(unknown)


@pytest.mark.parametrize("reason", FAILING)
def test_a_failed_sign_in_costs_one_hash_of_the_usual_price(
    service: Service, client: httpx.Client, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    email, password = FAILING[reason](service)
    # Accounts as sign-in leaves them: hashed at today's price.
    _reprice(service, email)
    prices = []
    verify = argon2.PasswordHasher.verify

    def note(hasher: argon2.PasswordHasher, stored: str | bytes, given: str | bytes) -> bool:
        prices.append(argon2.extract_parameters(str(stored)))
        return verify(hasher, stored, given)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", note)
    assert sign_in(client, email, password).status_code == 401
    assert prices == [OWASP]


def _reprice(service: Service, email: str) -> None:
    stored = argon2.PasswordHasher.from_parameters(OWASP).hash(PASSWORD)

    def work(user: User | None) -> None:
        if user is not None and user.password_hash is not None:
            user.password_hash = stored

    service.app.database.transact(lambda session: work(User.by_email(session, email)), write=True)


def test_a_sign_in_renews_a_hash_of_another_price_once(
    service: Service, client: httpx.Client
) -> None:
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


def test_sign_ins_at_the_same_moment_renew_a_hash_without_failing(
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


def test_the_dots_and_tags_of_an_address_tell_accounts_apart(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    local, _, domain = user.email.partition("@")
    for other in (f"{local}+tag@{domain}", f"{local[0]}.{local[1:]}@{domain}"):
        assert sign_in(client, other).status_code == 401
