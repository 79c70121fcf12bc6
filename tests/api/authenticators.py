"""Second factors over HTTP: the requests of their owners, and accounts that have one."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy.orm import Session

from models.access import authenticator_app as second_factor
from models.identity.one_time_token import OneTimeToken
from models.identity.user import User
from models.storage.base import utcnow
from tests.api.accounts import bearer, fresh_address, keys_of, token_for
from tests.authenticator import Authenticator, enrol_app
from tests.factories import make_account
from tests.service import PASSWORD, Service

SECOND_FACTOR = "/v1/profile/second-factor"


class SecondFactorClock:
    """The time that second factors go by: it stands still, in the middle of a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seconds = utcnow().timestamp()
        self.now = datetime.fromtimestamp(seconds - seconds % 30 + 15, UTC)
        monkeypatch.setattr(second_factor, "utcnow", lambda: self.now)

    def go_on(self, seconds: float) -> None:
        """Let some time go by."""
        self.now += timedelta(seconds=seconds)


def enrolled(service: Service, user: User, *, confirmed: bool = True) -> Authenticator:
    """Give an account an authenticator straight in the database, none of whose codes was used."""
    return enrol_app(service.app.database, keys_of(service), user, confirmed=confirmed)


def enrol(client: httpx.Client, token: str, password: str = PASSWORD) -> httpx.Response:
    """Ask for a secret."""
    return _post(client, token, "", {"current_password": password})


def begin(service: Service, client: httpx.Client) -> tuple[User, str, Authenticator]:
    """Make an account that signs in and enrols an app, as its owner does."""
    user = make_account(service, verified=True)
    token = token_for(service, user)
    answer = enrol(client, token)
    assert answer.status_code == 200, answer.text
    return user, token, Authenticator(answer.json()["secret"])


def confirm(client: httpx.Client, token: str, code: str) -> httpx.Response:
    """Show that the app has it."""
    return _post(client, token, "/confirm", {"code": code})


def replace_codes(
    client: httpx.Client, token: str, code: str, password: str = PASSWORD
) -> httpx.Response:
    """Ask for new recovery codes."""
    return _post(client, token, "/recovery-codes", {"current_password": password, "code": code})


def disable(
    client: httpx.Client, token: str, code: str, password: str = PASSWORD
) -> httpx.Response:
    """Ask to do without."""
    return _post(client, token, "/disable", {"current_password": password, "code": code})


def state(client: httpx.Client, token: str) -> dict[str, object]:
    """Read how things stand."""
    answer = client.get(SECOND_FACTOR, headers=bearer(token))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def challenge(client: httpx.Client, user: User) -> str:
    """Sign in with the password, and give the challenge that comes of it."""
    credentials = {"email": user.email, "password": PASSWORD}
    answer = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    assert answer.json()["code"] == "second-factor-required", answer.text
    return str(answer.json()["challenge"])


def challenges(service: Service, user: User, count: int) -> list[str]:
    """Make the challenges of so many sign-ins, straight in the database."""
    lifetime = timedelta(minutes=5)

    def work(session: Session) -> list[str]:
        return [
            OneTimeToken.issue(session, user, "second_factor", lifetime=lifetime)
            for _ in range(count)
        ]

    return service.app.database.transact(work, write=True)


def complete(client: httpx.Client, waiting: str, code: str) -> httpx.Response:
    """Go on with a sign-in that waits."""
    body = {"challenge": waiting, "code": code}
    return client.post("/v1/auth/second-factor", json=body, headers=fresh_address())


def _post(client: httpx.Client, token: str, path: str, body: dict[str, str]) -> httpx.Response:
    headers = bearer(token) | fresh_address()
    return client.post(SECOND_FACTOR + path, json=body, headers=headers)
