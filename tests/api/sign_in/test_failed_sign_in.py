"""A failed sign-in reveals nothing, in its response or its timing (MISSION M13)."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import argon2
import httpx
import pytest

from models.identity.password import OWASP
from models.identity.user import User
from tests.api.accounts import edit_account, fresh_address
from tests.api.answers import comparable, problem
from tests.factories import fresh_email, make_account
from tests.service import PASSWORD, Service

pytestmark = pytest.mark.mission("M13")


def sign_in(client: httpx.Client, email: str, password: str) -> httpx.Response:
    """Try it from an address that has not tried before."""
    credentials = {"email": email, "password": password}
    return client.post("/v1/auth/token", json=credentials, headers=fresh_address())


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
def test_a_failed_sign_in_does_not_reveal_the_reason(
    service: Service, client: httpx.Client, reason: str
) -> None:
    unknown = sign_in(client, *FAILING["unknown email"](service))
    answer = sign_in(client, *FAILING[reason](service))
    assert answer.status_code == 401
    assert problem(answer) == "wrong-credentials"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert comparable(answer) == comparable(unknown)


@pytest.mark.parametrize("reason", FAILING)
def test_a_failed_sign_in_costs_one_hash(
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
