"""Limits on sign-in attempts, which do not lock out others (MISSION M13)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from models.identity.user import User
from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.answers import comparable, problem
from tests.api.clocks import Clock
from tests.api.hashing import hashing_held, sign_in_wrongly, sign_ups_held
from tests.databases import make_database_url
from tests.factories import fresh_email, make_account
from tests.service import PASSWORD, Service, running

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M22")]

PATH = "/v1/auth/token"
PER_ADDRESS = 5
FLOOD = 30
"""All requests of an address in a minute."""
PER_ACCOUNT = 21
"""Tries from unknown addresses: 20 in ten minutes, and the first of those every 30 seconds."""
MANY = 60


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("limits")
    with make_database_url("sqlite", folder) as url, running(folder, url) as service:
        yield service


def sign_in(
    client: httpx.Client, email: str, password: str, address: dict[str, str]
) -> httpx.Response:
    return client.post(PATH, json={"email": email, "password": password}, headers=address)


def assert_is_limited(answer: httpx.Response, window: int) -> None:
    assert answer.status_code == 429
    assert problem(answer) == "rate-limited"
    assert 1 <= int(answer.headers["retry-after"]) <= window


def test_the_sixth_failure_in_a_minute_has_to_wait(service: Service, client: httpx.Client) -> None:
    address = fresh_address()
    for _ in range(PER_ADDRESS):
        email = make_account(service).email
        assert sign_in(client, email, "wrong", address).status_code == 401
    for _ in range(2):
        assert_is_limited(sign_in(client, make_account(service).email, PASSWORD, address), 60)
    # Others are not kept waiting.
    other = sign_in(client, make_account(service).email, PASSWORD, fresh_address())
    assert other.status_code == 200


@pytest.mark.parametrize("address", [fresh_address(), {"X-Forwarded-For": "2001:db8:7:7::1"}])
def test_a_success_gives_back_its_own_try_only(
    service: Service, client: httpx.Client, address: dict[str, str]
) -> None:
    colleagues = [make_account(service).email for _ in range(PER_ADDRESS + 1)]
    for email in colleagues:
        assert sign_in(client, email, PASSWORD, address).status_code == 200
    for email in colleagues[1:]:
        assert sign_in(client, email, "wrong", address).status_code == 401
        if email != colleagues[-1]:
            assert sign_in(client, email, PASSWORD, address).status_code == 200
    assert_is_limited(sign_in(client, colleagues[0], PASSWORD, address), 60)


def test_a_correct_password_that_needs_more_gives_its_try_back(
    service: Service, client: httpx.Client
) -> None:
    user, address = make_account(service), fresh_address()
    demand = update(User).where(User.id == user.id).values(password_change_required=True)
    service.app.database.transact(lambda session: session.execute(demand), write=True)
    for _ in range(PER_ADDRESS + 1):
        answer = sign_in(client, user.email, PASSWORD, address)
        assert (answer.status_code, problem(answer)) == (403, "password-change-required")


def test_a_flood_of_successes_is_limited(service: Service, client: httpx.Client) -> None:
    address, emails = fresh_address(), [make_account(service).email for _ in range(2)]
    for number in range(FLOOD):
        assert sign_in(client, emails[number % 2], PASSWORD, address).status_code == 200
    assert_is_limited(sign_in(client, emails[0], PASSWORD, address), 60)
    assert sign_in(client, emails[0], PASSWORD, fresh_address()).status_code == 200


def test_an_attempt_counts_whatever_is_wrong_with_it(
    service: Service, client: httpx.Client
) -> None:
    address = fresh_address()
    headers = address | {"Content-Type": "application/json"}
    for content in (b"", b"{", b"{}", b"[]", b'{"email": 1}'):
        assert client.post(PATH, content=content, headers=headers).status_code == 422
    assert_is_limited(sign_in(client, make_account(service).email, PASSWORD, address), 60)


def test_a_client_cannot_choose_its_counted_address(service: Service, client: httpx.Client) -> None:
    # The proxy writes the address it saw at the right; what is left of it is the client's story.
    seen = fresh_address()["X-Forwarded-For"]
    email = make_account(service).email
    answers = [
        sign_in(client, email, "wrong", {"X-Forwarded-For": f"203.0.113.{number}, {seen}"})
        for number in range(PER_ADDRESS + 1)
    ]
    assert [answer.status_code for answer in answers] == [401] * PER_ADDRESS + [429]


@pytest.mark.parametrize(
    ("addresses", "limited"),
    [
        # The 2^64 addresses of one site are one, or the limit would be none.
        ([f"2001:db8:0:1::{number:x}" for number in range(1, 7)], True),
        ([f"2001:db8:0:{number:x}::1" for number in range(16, 22)], False),
        # IPv4 addresses stay themselves, however a socket of both kinds shows them.
        ([f"::ffff:203.0.113.{number}" for number in range(101, 107)], False),
        (["::ffff:203.0.113.99", "203.0.113.99"] * 3, True),
    ],
)
def test_attempts_are_counted_by_address_and_ipv6_network(
    client: httpx.Client, addresses: list[str], *, limited: bool
) -> None:
    answers = [
        sign_in(client, fresh_email(), "wrong", {"X-Forwarded-For": address})
        for address in addresses
    ]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429 if limited else 401]


def test_a_registering_address_keeps_its_own_sign_in_limit(client: httpx.Client) -> None:
    home = fresh_address()
    body = {"name": "Ada", "email": fresh_email(), "password": "eleven quiet harbours"}
    assert client.post("/v1/users", json=body, headers=home).status_code == 201
    for _ in range(PER_ACCOUNT):
        sign_in(client, body["email"], "wrong", fresh_address())
    assert_is_limited(sign_in(client, body["email"], body["password"], fresh_address()), 30)
    assert sign_in(client, body["email"], body["password"], home).status_code == 200


def test_retry_after_is_the_time_of_the_next_attempt(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, address = Clock(), fresh_address()
    monkeypatch.setattr("api.contract.serve.local_counters.time", clock)
    monkeypatch.setattr("api.contract.serve.rate_limits.time", clock)
    for _ in range(PER_ADDRESS):
        assert sign_in(client, fresh_email(), "wrong", address).status_code == 401
        clock.ahead += 5
    limited = sign_in(client, fresh_email(), "wrong", address)
    assert_is_limited(limited, 60)
    now, wait = clock.ahead, int(limited.headers["retry-after"])
    # The first of the tries was 25 seconds ago.
    assert 30 <= wait <= 35
    clock.ahead = now + wait - 4
    assert sign_in(client, fresh_email(), "wrong", address).status_code == 429
    clock.ahead = now + wait
    assert sign_in(client, fresh_email(), "wrong", address).status_code == 401
    assert sign_in(client, fresh_email(), "wrong", address).status_code == 429


def test_the_remaining_attempts_are_reported(service: Service, client: httpx.Client) -> None:
    address = fresh_address()
    email = make_account(service).email
    for left in reversed(range(PER_ADDRESS)):
        headers = sign_in(client, email, "wrong", address).headers
        assert f'"sign-in-address";r={left};' in headers["ratelimit"]
        assert '"sign-in-address";q=5;w=60' in headers["ratelimit-policy"]


def test_password_guessing_does_not_lock_out_the_owner(
    service: Service, client: httpx.Client
) -> None:
    email, home = make_account(service).email, fresh_address()
    assert sign_in(client, email, PASSWORD, home).status_code == 200
    statuses = {
        sign_in(client, email, "wrong", fresh_address()).status_code for _ in range(PER_ACCOUNT - 1)
    }
    assert statuses == {401}
    # The password does not help the one who guesses: the answer cannot tell that it was right.
    for password in (PASSWORD, "wrong"):
        assert_is_limited(sign_in(client, email, password, fresh_address()), 30)
    assert sign_in(client, email, PASSWORD, home).status_code == 200


def test_addresses_with_and_without_account_have_equal_limits(
    service: Service, client: httpx.Client
) -> None:
    emails = [make_account(service).email, fresh_email()]
    answers = []
    for email in emails:
        for _ in range(PER_ACCOUNT):
            sign_in(client, email, "wrong", fresh_address())
        answers.append(sign_in(client, email, "wrong", fresh_address()))
    known, unknown = map(comparable, answers)
    assert known.status == unknown.status == 429
    assert set(known.headers) == set(unknown.headers)


@pytest.mark.parametrize(
    ("email", "twins"),
    [
        ("Grace@Concord.Example", ["grace@concord.example", "GRACE@CONCORD.EXAMPLE"]),
        ("guest@strasse.example", ["guest@xn--strae-oqa.example", "GUEST@XN--STRAE-OQA.EXAMPLE"]),
    ],
)
def test_twins_of_an_address_share_the_attempts_of_the_account(
    service: Service, client: httpx.Client, email: str, twins: list[str]
) -> None:
    make_account(service, email=email)
    spellings = [email, *twins]
    for number in range(PER_ACCOUNT):
        spelling = spellings[number % len(spellings)]
        assert sign_in(client, spelling, "wrong", fresh_address()).status_code == 401
    for spelling in spellings:
        assert_is_limited(sign_in(client, spelling, "wrong", fresh_address()), 30)


@pytest.mark.mission("M17")
def test_name_changes_do_not_use_the_hashing_threads(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, threads = make_account(service), service.app.settings.hashing_threads
    token = bearer(token_for(service, user))
    with hashing_held(monkeypatch) as held, ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(sign_in_wrongly, client) for _ in range(threads)]
        held.wait_for(threads)
        for path in ("/v1/profile", f"/v1/users/{user.id}"):
            assert client.patch(path, json={"name": "Ada"}, headers=token).status_code == 200
        held.let_go()
        assert {answer.result().status_code for answer in waiting} == {401}


@pytest.mark.mission("M17")
@pytest.mark.mission("M25")
def test_many_concurrent_sign_ins_do_not_delay_others(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bearer(token_for(service, make_account(service)))
    with hashing_held(monkeypatch) as held, ThreadPoolExecutor(MANY) as pool:
        waiting = [pool.submit(sign_in_wrongly, client) for _ in range(MANY)]
        held.wait_for(service.app.settings.hashing_threads)
        # No password can be hashed now, and more than 50 wait for it: these need none.
        for path in ("/health", "/health/ready", "/v1/divide?a=1&b=2", "/v1/profile"):
            assert client.get(path, headers=token).status_code == 200
        assert not any(answer.done() for answer in waiting)
        assert held.most == held.came == service.app.settings.hashing_threads
        held.let_go()
        assert {answer.result().status_code for answer in waiting} == {401}
    assert held.came == MANY
    assert held.most == service.app.settings.hashing_threads


@pytest.mark.mission("M8")
def test_sign_ins_beyond_the_queue_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, HASHING_THREADS="1", QUEUE="1") as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
        hashing_held(monkeypatch) as held,
        ThreadPoolExecutor(3) as pool,
    ):
        first = pool.submit(sign_in_wrongly, client)
        held.wait_for(1)
        others = [pool.submit(sign_in_wrongly, client) for _ in range(2)]
        refused = next(as_completed(others)).result()
        assert refused.status_code == 503
        assert problem(refused) == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/health").status_code == 200
        held.let_go()
        statuses = [first.result().status_code, *(answer.result().status_code for answer in others)]
        assert sorted(statuses) == [401, 401, 503]


@pytest.mark.mission("M8")
@pytest.mark.mission("M25")
def test_a_burst_of_sign_ups_does_not_delay_sign_ins(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    email, home = make_account(service).email, fresh_address()
    session = sign_in(client, email, PASSWORD, home).json()

    def sign_up(_: int) -> httpx.Response:
        body = {"name": "Ada", "email": fresh_email(), "password": "eleven quiet harbours"}
        return client.post("/v1/users", json=body, headers=fresh_address(), timeout=60)

    with sign_ups_held(monkeypatch) as held, ThreadPoolExecutor(MANY) as pool:
        waiting = [pool.submit(sign_up, number) for number in range(MANY)]
        refused = next(as_completed(waiting)).result()
        assert (refused.status_code, problem(refused)) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        # No sign-up goes on now, and as many wait as may.
        assert sign_in(client, email, PASSWORD, home).status_code == 200
        refreshed = {"refresh_token": session["refresh_token"]}
        assert client.post("/v1/auth/refresh", json=refreshed).status_code == 200
        assert held.most <= max(1, service.app.settings.hashing_threads // 2)
        held.let_go()
        statuses = {answer.result().status_code for answer in waiting}
    assert statuses == {201, 503}
