"""Links over HTTP: how their readers use them, and links that no message contained."""

from datetime import timedelta
from functools import partial

import httpx

from models.identity.one_time_token import OneTimeToken, Purpose
from models.identity.user import User
from tests.api.accounts import fresh_address
from tests.service import PASSWORD, Service

NEW_PASSWORD = "eleven quiet harbours"


def link_for(
    service: Service, user: User, purpose: Purpose, *, email: str | None = None, hours: float = 1
) -> str:
    """Make the secret of a link straight in the database."""
    issue = partial(
        OneTimeToken.issue,
        user=user,
        purpose=purpose,
        lifetime=timedelta(hours=hours),
        email=email or user.email,
    )
    return service.app.database.transact(issue, write=True)


def confirm_email(client: httpx.Client, secret: str, password: str = PASSWORD) -> httpx.Response:
    """Use a link that is for an address."""
    body = {"token": secret, "current_password": password}
    return client.post("/v1/auth/email-verification/confirm", json=body, headers=fresh_address())


def request_reset(client: httpx.Client, email: str) -> httpx.Response:
    """Ask for a link to set a password."""
    body = {"email": email}
    return client.post("/v1/auth/password-reset", json=body, headers=fresh_address())


def reset_password(
    client: httpx.Client, secret: str, password: str = NEW_PASSWORD
) -> httpx.Response:
    """Use a link that is for a password."""
    body = {"token": secret, "password": password}
    return client.post("/v1/auth/password-reset/confirm", json=body, headers=fresh_address())


def signs_in(client: httpx.Client, email: str, password: str) -> bool:
    """Try to sign in."""
    credentials = {"email": email, "password": password}
    answer = client.post("/v1/auth/token", json=credentials, headers=fresh_address())
    return answer.status_code == 200
