"""Signing in: with a password, and where the account has a second factor with a code as well."""

from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from models.audit_event import AuditEvent, Origin
from models.database import Database
from models.errors import (
    DomainError,
    InvalidChallenge,
    PasswordChangeRequired,
    SecondFactorRequired,
    WrongCredentials,
)
from models.one_time_token import OneTimeToken
from models.password import Passwords
from models.seal import Seal
from models.second_factor import SecondFactor
from models.session import Grant, SessionRules, start_session
from models.user import User

_CHALLENGE_LIFETIME = timedelta(minutes=5)


def sign_in(
    database: Database,
    passwords: Passwords,
    rules: SessionRules,
    origin: Origin,
    *,
    email: str,
    password: str,
) -> Grant:
    """Begin a session of the active account of an address and its password.

    The password is checked between two transactions, because it takes its time and nobody else's
    writing is to wait for it. Every attempt is written down, of an unknown address as well, so
    that it takes as long.

    Raises:
        WrongCredentials: there is none. An unknown address, a wrong password and a disabled
            account take the same time and look the same.
        PasswordChangeRequired: the password is right, and a new one has to be set.
        SecondFactorRequired: the password is right, and `complete_sign_in` is to follow.
    """
    outcome = None
    while outcome is None:
        known = database.transact(partial(User.by_email, email=email), write=False)
        checked = known.password_hash if known else None
        holds = passwords.verify(checked, password)
        renewed = None
        if holds and checked is not None and passwords.needs_rehash(checked):
            renewed = passwords.rehash(password)
        begin = partial(
            _begin,
            email=email,
            checked=checked,
            holds=holds,
            renewed=renewed,
            rules=rules,
            origin=origin,
        )
        outcome = database.transact(begin, write=True)
    if isinstance(outcome, Grant):
        return outcome
    raise outcome


def _begin(
    session: Session,
    *,
    email: str,
    checked: str | None,
    holds: bool,
    renewed: str | None,
    rules: SessionRules,
    origin: Origin,
) -> Grant | DomainError | None:
    """Let in whoever's password held against the hash `checked`, or give what to refuse them with.

    `None` is for a hash that is another one by now, so that the password has to be checked again.
    """
    user = User.by_email(session, email)
    if (user.password_hash if user else None) != checked:
        return None
    record = partial(AuditEvent.record, session, origin=origin, user_id=user.id if user else None)
    if user is None or not holds or not user.active:
        record("sign-in", succeeded=False)
        return WrongCredentials()
    if user.password_change_required:
        record("sign-in", succeeded=False)
        return PasswordChangeRequired()
    if renewed is not None:
        user.upgrade_password_hash(session, renewed)
    if SecondFactor.is_active(session, user.id):
        record("sign-in.challenge")
        lifetime = _CHALLENGE_LIFETIME
        challenge = OneTimeToken.issue(session, user, "second_factor", lifetime=lifetime)
        return SecondFactorRequired(challenge=challenge)
    record("sign-in")
    return start_session(session, user, rules, origin)


def complete_sign_in(
    session: Session,
    seal: Seal,
    rules: SessionRules,
    origin: Origin,
    *,
    challenge: str,
    code: str,
) -> Grant:
    """Begin the session that a sign-in was on its way to.

    Raises:
        InvalidChallenge: there is no such sign-in, or it was completed, or is too long ago.
        WrongCode: the code is none of the account's, was used, or too many were tried.
    """
    token = OneTimeToken.find(session, "second_factor", challenge)
    user = session.get(User, token.user_id) if token else None
    if token is None or user is None or not token.is_for(user):
        raise InvalidChallenge
    SecondFactor.verify(session, seal, user.id, code, origin)
    if not token.redeem(session):
        raise InvalidChallenge
    AuditEvent.record(session, "sign-in.second-factor", origin, user_id=user.id)
    return start_session(session, user, rules, origin)
