"""Credentials for the fuzzer: codes, challenges, refresh tokens and links."""

import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from api.credentials.signing import KeyRing
from models.access.authenticator_app import SecondFactor
from models.identity.one_time_token import OneTimeToken, Purpose
from models.identity.user import User
from models.storage.database import Database
from tests.authenticator import enrol_app, verify_address
from tests.factories import make_session

Proof = Callable[[User], Mapping[str, str]]


class DeskProofs:
    """Brings an account to where an operation begins, and says what to send with it."""

    def __init__(self, database: Database, keys: KeyRing, password: str) -> None:
        self._database = database
        self._keys = keys
        self._password = {"current_password": password}
        self._new_password = {"password": password}
        self._of: Mapping[str, Proof] = {
            "enrol_second_factor": self._to_enrol,
            "confirm_second_factor": partial(self._code, confirmed=False),
            "replace_recovery_codes": self._code,
            "disable_second_factor": self._code,
            "complete_sign_in": self._challenge,
            "refresh_token": self._refresh_token,
            "request_email_change": self._to_move,
            "confirm_email": partial(self._link, purpose="verify_email"),
            "confirm_password_reset": partial(self._link, purpose="set_password"),
        }

    def proof(self, user: User, operation_id: str) -> Mapping[str, str]:
        """Return the members; none for an operation that wants no proof."""
        of = self._of.get(operation_id)
        return of(user) if of else {}

    def _to_enrol(self, user: User) -> Mapping[str, str]:
        def work(session: Session) -> None:
            SecondFactor.forget(session, user.id)
            verify_address(session, user)

        self._database.transact(work, write=True)
        return self._password

    def _to_move(self, user: User) -> Mapping[str, str]:
        return {**self._to_enrol(user), "email": f"{uuid.uuid4().hex}@concord.example"}

    def _code(self, user: User, *, confirmed: bool = True) -> Mapping[str, str]:
        app = enrol_app(self._database, self._keys, user, confirmed=confirmed)
        return {**self._password, "code": app.code()}

    def _challenge(self, user: User) -> Mapping[str, str]:
        return {**self._code(user), "challenge": self._secret(user, "second_factor")}

    def _link(self, user: User, *, purpose: Purpose) -> Mapping[str, str]:
        proofs = {**self._password, **self._new_password}
        return {**proofs, "token": self._secret(user, purpose)}

    def _secret(self, user: User, purpose: Purpose) -> str:
        lifetime = timedelta(minutes=5)
        issue = partial(
            OneTimeToken.issue, user=user, purpose=purpose, lifetime=lifetime, email=user.email
        )
        return self._database.transact(issue, write=True)

    def _refresh_token(self, user: User) -> Mapping[str, str]:
        return {"refresh_token": make_session(self._database, user, self._keys).refresh_token}
