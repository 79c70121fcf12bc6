"""Changes that no API key can make, and those that require a recent sign-in (MISSION M14, M18).

The cases are made from `x-requires-session` in the contract.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from api.credentials.access_tokens import Tokens
from models.access.session import NewSession
from models.identity.permission import SCOPES_OF_ROLE
from models.identity.token import Token
from models.identity.user import User
from models.storage.base import utcnow
from tests.api.accounts import bearer, fresh_address, grant_for, key_for, keys_of, read_account
from tests.api.answers import problem
from tests.api.sample_calls import SampleCall, operations
from tests.api.things import things_for
from tests.factories import make_account
from tests.service import PASSWORD, Service

pytestmark = [pytest.mark.mission("M14"), pytest.mark.mission("M18")]

SENSITIVE = [
    pytest.param(operation, body, max_age, id=f"{operation.id} {' '.join(body or ('any',))}")
    for operation in operations()
    for body, max_age in operation.sensitive
]
RECENT = [case for case in SENSITIVE if case.values[2] is not None]
SPARE = 60
"""Seconds that a test may take."""


def attempt(
    service: Service,
    client: httpx.Client,
    operation: SampleCall,
    body: Mapping[str, object] | None,
    owner: User,
    headers: dict[str, str],
) -> httpx.Response:
    """Try a sensitive change, with every proof that the body can carry."""
    things = things_for(service, operation, owner)
    proof = {"current_password": PASSWORD} if body and "password" in body else {}
    return client.request(
        operation.method,
        operation.url(things.places),
        json=body and {**body, **proof},
        headers=headers | fresh_address(),
    )


def aged(service: Service, grant: NewSession, seconds: int) -> dict[str, str]:
    """Let a session have begun some time ago; give what its access token is sent in."""

    def work(session: Session) -> None:
        begun = utcnow() - timedelta(seconds=seconds)
        query = update(Token).where(Token.id == grant.session.id)
        session.execute(query.values(created_at=begun))

    service.app.database.transact(work, write=True)
    tokens = Tokens(keys_of(service), service.app.settings.public_url)
    return bearer(tokens.issue(grant).access_token)


@pytest.mark.parametrize(("operation", "body", "max_age"), SENSITIVE)
def test_a_key_with_every_scope_cannot_make_a_sensitive_change(
    service: Service,
    client: httpx.Client,
    operation: SampleCall,
    body: Mapping[str, object] | None,
    max_age: int | None,
) -> None:
    del max_age
    owner = make_account(service, role="admin")
    key = bearer(key_for(service, owner, *SCOPES_OF_ROLE["admin"])[1])
    answer = attempt(service, client, operation, body, owner, key)
    assert (answer.status_code, problem(answer)) == (403, "session-required")
    assert read_account(service, owner.id).version == owner.version


@pytest.mark.parametrize(("operation", "body", "max_age"), RECENT)
def test_an_older_session_cannot_make_a_sensitive_change(
    service: Service,
    client: httpx.Client,
    operation: SampleCall,
    body: Mapping[str, object] | None,
    max_age: int,
) -> None:
    administrator, other = make_account(service, role="admin"), make_account(service)
    for owner in (administrator, other):
        old = aged(service, grant_for(service, administrator), max_age + 1)
        answer = attempt(service, client, operation, body, owner, old)
        assert (answer.status_code, problem(answer)) == (401, "recent-sign-in-required")
        challenge = f'Bearer error="insufficient_user_authentication", max_age="{max_age}"'
        assert answer.headers["www-authenticate"] == challenge
        assert read_account(service, owner.id).version == owner.version
        # Everything else goes on as before.
        assert client.get("/v1/profile", headers=old).status_code == 200


@pytest.mark.parametrize(("operation", "body", "max_age"), SENSITIVE)
def test_a_recent_session_can_make_a_sensitive_change(
    service: Service,
    client: httpx.Client,
    operation: SampleCall,
    body: Mapping[str, object] | None,
    max_age: int | None,
) -> None:
    make_account(service, role="admin")
    administrator = make_account(service, role="admin")
    # Without a limit to its age, a session of any age may.
    age = 86_000 if max_age is None else max_age - SPARE
    recent = aged(service, grant_for(service, administrator), age)
    answer = attempt(service, client, operation, body, administrator, recent)
    assert answer.status_code == operation.success, answer.text


def test_a_refresh_keeps_the_time_of_the_sign_in(service: Service, client: httpx.Client) -> None:
    user = make_account(service)
    credentials = {"email": user.email, "password": PASSWORD}
    begun = client.post("/v1/auth/token", json=credentials, headers=fresh_address()).json()

    def age(session: Session) -> None:
        query = update(Token).where(Token.user_id == user.id)
        session.execute(query.values(created_at=utcnow() - timedelta(hours=1)))

    service.app.database.transact(age, write=True)
    refreshed = client.post(
        "/v1/auth/refresh",
        json={"refresh_token": begun["refresh_token"]},
        headers=fresh_address(),
    ).json()
    delete = partial(client.delete, f"/v1/users/{user.id}")
    assert problem(delete(headers=bearer(refreshed["access_token"]))) == "recent-sign-in-required"
    again = client.post("/v1/auth/token", json=credentials, headers=fresh_address()).json()
    assert delete(headers=bearer(again["access_token"])).status_code == 204


def test_a_key_can_change_a_name_but_not_credentials(
    service: Service, client: httpx.Client
) -> None:
    administrator, other = make_account(service, role="admin"), make_account(service)
    key = bearer(key_for(service, administrator, *SCOPES_OF_ROLE["admin"])[1])
    path = f"/v1/users/{other.id}"
    assert client.patch(path, json={"name": "Ada King"}, headers=key).status_code == 200
    # One member that requires a session is enough.
    body = {"name": "Mallory", "role": "admin"}
    assert problem(client.patch(path, json=body, headers=key)) == "session-required"
    changed = read_account(service, other.id)
    assert (changed.name, changed.role) == ("Ada King", "user")
