"""Every kind of caller: the account that a request concerns, and the credentials sent with it."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache, partial
from typing import TypeAlias

import jwt

from models.identity.api_key import hash_api_key
from models.identity.one_time_token import OneTimeToken, Purpose
from models.identity.user import User
from tests.api.accounts import bearer, edit_account, grant_for, key_for, read_account, token_for
from tests.api.token_forger import Forger
from tests.factories import STATUSES_OF_TOKENS, make_account
from tests.service import Service

Headers: TypeAlias = dict[str, str]
Caller: TypeAlias = Callable[[Service], tuple[User, Headers]]
"""Gives the account that a path names, and the headers that the caller sends."""


def caller_of(service: Service, headers: Headers) -> User:
    """Whose token or key some headers carry."""
    credential = headers["Authorization"].removeprefix("Bearer ")
    if digest := hash_api_key(credential):
        find = partial(STATUSES_OF_TOKENS.read, credential=digest)
        status = service.app.database.read(find)
        assert status is not None
        return read_account(service, status.user_id)
    claims = jwt.decode(credential, options={"verify_signature": False})
    return read_account(service, int(claims["sub"]))


@lru_cache(maxsize=1)
def _forger(service: Service) -> Forger:
    """Make an account once, because no forged token changes it."""
    return Forger(service, make_account(service))


def _forged(forge: Callable[[Forger], str]) -> Caller:
    def caller(service: Service) -> tuple[User, Headers]:
        forger = _forger(service)
        return forger.user, bearer(forge(forger))

    return caller


def _expired(forger: Forger) -> str:
    now = int(time.time())
    return forger.signed(claims=forger.claims(iat=now - 3600, nbf=now - 3600, exp=now))


def _nobody(service: Service) -> tuple[User, Headers]:
    return make_account(service), {}


def _disabled(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    edit_account(service, user.id, lambda session, row: row.change(session, active=False))
    # Even one that nothing has ended since: it would count if the account did.
    return user, bearer(token_for(service, read_account(service, user.id)))


def _deleted(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    edit_account(service, user.id, lambda session, row: row.erase(session))
    return user, bearer(token_for(service, read_account(service, user.id)))


def _promoted(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    edit_account(service, user.id, lambda session, row: row.change(session, role="admin"))
    return user, bearer(token_for(service, user))


def _demoted(service: Service) -> tuple[User, Headers]:
    make_account(service, role="admin")
    user = make_account(service, role="admin")
    edit_account(service, user.id, lambda session, row: row.change(session, role="user"))
    return user, bearer(token_for(service, user))


def _user(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    return user, bearer(token_for(service, user))


def _other_user(service: Service) -> tuple[User, Headers]:
    return make_account(service), bearer(token_for(service, make_account(service)))


def _administrator(service: Service) -> tuple[User, Headers]:
    administrator = make_account(service, role="admin")
    return make_account(service), bearer(token_for(service, administrator))


def _signed_out(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    ended = bearer(token_for(service, user))
    edit_account(service, user.id, lambda session, row: row.end_tokens(session))
    return user, ended


def _with_refresh_token(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    return user, bearer(grant_for(service, user).refresh_token)


def _with_secret_for(purpose: Purpose) -> Caller:
    def caller(service: Service) -> tuple[User, Headers]:
        user = make_account(service)
        lifetime = timedelta(minutes=5)
        issue = partial(OneTimeToken.issue, user=user, purpose=purpose, lifetime=lifetime)
        return user, bearer(service.app.database.transact(issue, write=True))

    return caller


def _with_ended_key(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    key = key_for(service, user, "users:read")[1]
    edit_account(service, user.id, lambda session, row: row.end_tokens(session))
    return user, bearer(key)


def _with_expired_key(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    return user, bearer(key_for(service, user, "users:read", days=-1)[1])


def _with_key(service: Service) -> tuple[User, Headers]:
    user = make_account(service)
    return user, bearer(key_for(service, user, *KEY_SCOPES)[1])


KEY_SCOPES = ("orders:read", "users:read")
KEY = "key with few scopes"
NOBODY, USER, OTHER_USER, ADMINISTRATOR = "no token", "user", "other user", "administrator"

REFUSED: Mapping[str, Caller] = {
    NOBODY: _nobody,
    "malformed token": _forged(lambda forger: forger.signed().replace(".", "", 1)),
    "expired token": _forged(_expired),
    "token of another key": _forged(Forger.signed_by_stranger),
    "token for another audience": _forged(
        lambda forger: forger.signed(claims=forger.claims(aud="https://other.example"))
    ),
    "token of another issuer": _forged(
        lambda forger: forger.signed(claims=forger.claims(iss="https://other.example"))
    ),
    "unsigned token": _forged(lambda forger: forger.unsigned("none")),
    "token signed with the public key": _forged(lambda forger: forger.shared(forger.public_pem)),
    "disabled account": _disabled,
    "deleted account": _deleted,
    "promoted since": _promoted,
    "demoted since": _demoted,
    "ended session": _signed_out,
    "refresh token": _with_refresh_token,
    "pending second factor": _with_secret_for("second_factor"),
    "link to set a password": _with_secret_for("set_password"),
    "ended key": _with_ended_key,
    "expired key": _with_expired_key,
}
"""Those whom no operation that needs a token may serve."""

ADMITTED: Mapping[str, Caller] = {
    USER: _user,
    OTHER_USER: _other_user,
    ADMINISTRATOR: _administrator,
    KEY: _with_key,
}
