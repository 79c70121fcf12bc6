"""Guesses are counted in memory and in Redis, and lock nobody out (M13)."""

import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Connection, select

from models.access.token_status import TokenStatus, TokenStatuses
from models.identity.api_key import new_api_key
from models.identity.audit_event import RequestOrigin
from models.identity.known_address import KnownAddress
from models.identity.one_time_token import Purpose
from models.identity.user import User
from tests.api.accounts import bearer, edit_account, key_for, token_for
from tests.api.answers import problem
from tests.api.clocks import Clock
from tests.api.recovering import NEW_PASSWORD, confirm_email, link_for
from tests.databases import make_database_url
from tests.factories import make_account
from tests.servers.redis_server import fresh_address, require_redis
from tests.service import PASSWORD, Service, running

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M22")]

PER_ACCOUNT = 21
"""Tries from unknown addresses: 20 in ten minutes, and the first of those every 30 seconds."""
PROOFS = 10
FAILURES = 100
WRONG = {"current_password": "wrong"}
CHECKS_PASSWORD = [
    ("PATCH", "/v1/profile", {"password": NEW_PASSWORD}),
    ("PATCH", "/v1/users/{}", {"password": NEW_PASSWORD}),
    ("POST", "/v1/profile/email-change", {"email": f"{uuid.uuid4().hex}@concord.example"}),
    ("POST", "/v1/profile/second-factor", {}),
    ("POST", "/v1/profile/second-factor/recovery-codes", {"code": "123456"}),
    ("POST", "/v1/profile/second-factor/disable", {"code": "123456"}),
]
"""Every operation that checks the password in hand, with the rest of a body."""


@pytest.fixture(scope="module", params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that counts in memory, and one that counts in Redis."""
    settings = {"REDIS_URL": require_redis()} if request.param == "redis" else {}
    folder = tmp_path_factory.mktemp("guessing")
    with make_database_url("sqlite", folder) as url, running(folder, url, **settings) as service:
        yield service


@pytest.fixture
def client(service: Service) -> httpx.Client:
    return service.client()


def at(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def owner(service: Service) -> User:
    """An account whose number and address no earlier run has counted for in Redis."""
    user = make_account(service, email=f"{uuid.uuid4().hex}@concord.example")
    moved = random.randrange(10**9, 10**15)  # noqa: S311 - only to be another one each time.

    def renumber(_: object, row: User) -> None:
        row.id = moved

    edit_account(service, user.id, renumber)
    user.id = moved
    return user


def sign_in(
    client: httpx.Client, email: str, address: str | None = None, password: str = PASSWORD
) -> httpx.Response:
    body = {"email": email, "password": password}
    return client.post("/v1/auth/token", json=body, headers=at(address or fresh_address()))


def guess(client: httpx.Client, email: str) -> None:
    """Use up an account's tries from changing addresses."""
    statuses = [
        sign_in(client, email, password="wrong").status_code for _ in range(PER_ACCOUNT + 1)
    ]
    assert statuses == [401] * PER_ACCOUNT + [429]


def test_all_operations_share_the_limit_for_password_guesses(
    service: Service, client: httpx.Client
) -> None:
    user, home = owner(service), at(fresh_address())
    headers = bearer(token_for(service, user)) | home
    statuses = []
    for turn in range(PROOFS + len(CHECKS_PASSWORD)):
        method, path, body = CHECKS_PASSWORD[turn % len(CHECKS_PASSWORD)]
        answer = client.request(method, path.format(user.id), json=body | WRONG, headers=headers)
        statuses.append(answer.status_code)
    assert statuses == [403] * PROOFS + [429] * len(CHECKS_PASSWORD)
    # What needs no password goes on, and so do other accounts at the same address.
    assert client.patch("/v1/profile", json={"name": "Ada"}, headers=headers).status_code == 200
    other = bearer(token_for(service, owner(service))) | home
    for method, path, body in CHECKS_PASSWORD[-2:]:
        assert client.request(method, path, json=body | WRONG, headers=other).status_code == 403


@pytest.mark.parametrize("purpose", ["change_email", "verify_email"])
def test_password_guesses_with_a_link_share_one_limit(
    service: Service, client: httpx.Client, purpose: Purpose
) -> None:
    user = owner(service)
    secret = link_for(service, user, purpose)
    guesses = [confirm_email(client, secret, f"guess {number}") for number in range(PROOFS)]
    assert {problem(answer) for answer in guesses} == {"wrong-password"}
    assert problem(confirm_email(client, secret)) == "rate-limited"
    # Only whoever has the link can use up its tries.
    assert confirm_email(client, link_for(service, user, purpose)).status_code == 204


@pytest.mark.parametrize("members", [{}, {"password": NEW_PASSWORD}, {"name": "Alice Baker"}])
@pytest.mark.parametrize("path", ["/v1/profile", "/v1/users/{}"])
def test_a_key_cannot_use_up_the_attempts_of_its_owner(
    service: Service, client: httpx.Client, path: str, members: dict[str, str]
) -> None:
    user, address = owner(service), at(fresh_address())
    key = bearer(key_for(service, user, "profile:write", "users:write")[1]) | address
    for _ in range(PROOFS + 1):
        answer = client.patch(path.format(user.id), headers=key, json=members | WRONG)
        assert (answer.status_code, problem(answer)) == (403, "session-required")
    session = bearer(token_for(service, user)) | address
    change = {"password": NEW_PASSWORD, "current_password": PASSWORD}
    assert client.patch("/v1/profile", headers=session, json=change).status_code == 200


def test_invalid_keys_are_refused_before_a_query(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, here = owner(service), at(fresh_address())
    _, key = key_for(service, user, "profile:read")
    _, unseen = key_for(service, user, "profile:read")
    asked: list[object] = []
    status = TokenStatuses.read

    def counted(
        statuses: TokenStatuses, connection: Connection, credential: UUID | bytes, **rest: bool
    ) -> TokenStatus | None:
        asked.append(credential)
        return status(statuses, connection, credential, **rest)

    def read(token: str, address: dict[str, str] = here) -> httpx.Response:
        return client.get("/v1/profile", headers=bearer(token) | address)

    assert read(key).status_code == 200
    monkeypatch.setattr(TokenStatuses, "read", counted)
    statuses = [read(new_api_key()).status_code for _ in range(FAILURES + 3)]
    assert statuses == [401] * FAILURES + [429] * 3
    assert len(asked) == FAILURES
    refused = read(unseen)
    assert (refused.status_code, problem(refused)) == (429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit"].startswith('"failed-credentials";r=0;t=')
    assert refused.headers["ratelimit-policy"] == f'"failed-credentials";q={FAILURES};w=60'
    # Keys that were valid before, sessions and other addresses go on; forged tokens are none.
    assert read(key).status_code == 200
    assert read(token_for(service, user)).status_code == 200
    assert read(unseen, at(fresh_address())).status_code == 200
    assert read("e30.e30." + "A" * 86).status_code == 429
    assert client.get("/v1/products", headers=here).status_code == 200


def test_a_site_cannot_guess_from_all_its_networks(client: httpx.Client) -> None:
    prefix = f"2001:db8:{random.randrange(2**16):x}"  # noqa: S311 - another one in each run.
    divide = "/v1/divide?a=1&b=1"

    def left(network: int) -> str:
        answer = client.get(divide, headers=at(f"{prefix}:{network:x}::1"))
        return answer.headers["ratelimit"].split(";")[1] if answer.status_code == 200 else "none"

    assert [left(1), left(1), left(2)] == ["r=599", "r=598", "r=599"]
    for network in range(100, 116):
        for _ in range(5):
            answer = sign_in(client, "nobody@site.example", f"{prefix}:{network:x}::1")
            assert answer.status_code in {401, 429}
    refused = client.post("/v1/auth/token", json={}, headers=at(f"{prefix}:ffff::1"))
    assert (refused.status_code, problem(refused)) == (429, "rate-limited")
    assert '"sign-in-address";r=0;t=' in refused.headers["ratelimit"]
    other = client.post("/v1/auth/token", json={}, headers=at(f"2001:db9:{prefix[9:]}::1"))
    assert other.status_code == 422


def test_guessing_delays_the_owner_but_does_not_lock_them_out(
    fresh_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It counts in memory, because the clock of a Redis server cannot be moved.
    client, clock, user = fresh_service.client(), Clock(), owner(fresh_service)
    for module in ("local_counters", "rate_limits"):
        monkeypatch.setattr(f"api.contract.serve.{module}.time", clock)
    guess(client, user.email)
    refused = sign_in(client, user.email)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    clock.ahead += int(refused.headers["retry-after"])
    assert sign_in(client, user.email).status_code == 200
    # Whoever guesses on gets one try in 30 seconds, wherever from.
    clock.ahead += 31
    statuses = [sign_in(client, user.email, password="wrong").status_code for _ in range(5)]
    assert statuses == [401, 429, 429, 429, 429]


@pytest.mark.parametrize("purpose", ["set_password", "verify_email"])
def test_a_link_from_a_message_makes_its_address_known(
    service: Service, client: httpx.Client, purpose: str
) -> None:
    user, here = owner(service), fresh_address()
    guess(client, user.email)
    body, path, password = {"current_password": PASSWORD}, "email-verification", PASSWORD
    if purpose == "set_password":
        body, path, password = {"password": NEW_PASSWORD}, "password-reset", NEW_PASSWORD
    body["token"] = link_for(service, user, purpose)  # type: ignore[arg-type]  # One of its two.
    answer = client.post(f"/v1/auth/{path}/confirm", json=body, headers=at(here))
    assert answer.status_code == 204
    assert sign_in(client, user.email, password=password).status_code == 429
    assert sign_in(client, user.email, here, password).status_code == 200


def test_the_address_of_a_squatter_is_forgotten_after_recovery(
    service: Service, client: httpx.Client
) -> None:
    email, squat, home = f"{uuid.uuid4().hex}@concord.example", fresh_address(), fresh_address()
    body = {"name": "Mallory", "email": email, "password": PASSWORD}
    assert client.post("/v1/users", json=body, headers=at(squat)).status_code == 201
    user = service.app.database.transact(lambda session: User.by_email(session, email), write=False)
    assert user is not None
    reset = {"token": link_for(service, user, "set_password"), "password": NEW_PASSWORD}
    path = "/v1/auth/password-reset/confirm"
    assert client.post(path, json=reset, headers=at(home)).status_code == 204
    guess(client, email)
    assert sign_in(client, email, squat).status_code == 429
    assert sign_in(client, email, home, NEW_PASSWORD).status_code == 200


def test_attempts_from_a_known_address_are_limited_too(
    service: Service, client: httpx.Client
) -> None:
    user, number = owner(service), random.randrange(1, 2**16)  # noqa: S311 - another one each time.
    home, neighbour = (f"2001:db8:1:{number:x}::{host}" for host in (1, 2))
    network = f"2001:db8:1:{number:x}::/64"
    note = partial(KnownAddress.note, user=user, origin=RequestOrigin(network=network))
    service.app.database.transact(note, write=True)
    guess(client, user.email)
    assert sign_in(client, user.email, neighbour).status_code == 200
    statuses = [sign_in(client, user.email, home, "wrong").status_code for _ in range(6)]
    assert statuses == [401, 401, 401, 401, 401, 429]
    assert "sign-in-address" in sign_in(client, user.email, home).headers["ratelimit"]
    query = select(KnownAddress.network).where(KnownAddress.user_id == user.id)
    known = service.app.database.transact(lambda session: session.scalars(query).all(), write=False)
    assert known == [network]


@pytest.mark.mission("M20")
def test_known_addresses_survive_a_restart(tmp_path: Path) -> None:
    email, home = f"{uuid.uuid4().hex}@concord.example", fresh_address()
    with make_database_url("sqlite", tmp_path) as url:
        with running(tmp_path, url) as service:
            make_account(service, email=email)
            assert sign_in(service.client(), email, home).status_code == 200
        with running(tmp_path, url) as service:
            client = service.client()
            guess(client, email)
            assert sign_in(client, email).status_code == 429
            assert sign_in(client, email, home).status_code == 200


def test_attempts_look_up_known_addresses_with_or_without_account(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    is_known = KnownAddress.is_known

    def counted(connection: Connection, email_key: str, network: str) -> bool:
        asked.append(email_key)
        return is_known(connection, email_key, network)

    monkeypatch.setattr(KnownAddress, "is_known", counted)
    for email in (owner(service).email, f"{uuid.uuid4().hex}@concord.example"):
        asked.clear()
        guess(client, email)
        assert asked == [email] * (PER_ACCOUNT + 1)


def test_concurrent_guesses_are_limited_like_sequential_ones(
    service: Service, client: httpx.Client
) -> None:
    user = owner(service)
    with ThreadPoolExecutor(8) as pool:
        tries = [
            pool.submit(sign_in, client, user.email, fresh_address(), "wrong") for _ in range(40)
        ]
        statuses = sorted(each.result().status_code for each in tries)
    assert statuses == [401] * PER_ACCOUNT + [429] * (40 - PER_ACCOUNT)
