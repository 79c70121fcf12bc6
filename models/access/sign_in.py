"""Sign-in: with a password and, if the account has a second factor, a code."""

from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.access.secret_box import SecretBox
from models.access.session import NewSession, SessionRules, start_session
from models.errors import (
    DomainError,
    InvalidChallenge,
    PasswordChangeRequired,
    SecondFactorRequired,
    WrongCredentials,
)
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.known_address import KnownAddress
from models.identity.one_time_token import OneTimeToken
from models.identity.password import Passwords
from models.identity.user import User
from models.storage.database import Database

_CHALLENGE_LIFETIME = timedelta(minutes=5)


def sign_in(
    database: Database,
    passwords: Passwords,
    rules: SessionRules,
    origin: RequestOrigin,
    *,
    email: str,
    password: str,
) -> NewSession:
    """Authenticate with an email address and a password, and start a session.

    The password is verified between two transactions, because hashing is slow and must not block
    other writers. Every attempt is recorded, even for an unknown address, so that all failures take
    the same time.

    Raises:
        WrongCredentials: The email address or password is incorrect, or the account is disabled.
            These cases take the same time and return the same error.
        PasswordChangeRequired: The password is correct, but the account must set a new one.
        SecondFactorRequired: The password is correct, and `redeem_challenge` must follow.
    """
    outcome = None
    while outcome is None:
        known = database.read(partial(User.by_email, email=email), single=True)
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
    if isinstance(outcome, NewSession):
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
    origin: RequestOrigin,
) -> NewSession | DomainError | None:
    """Start a session if the password matched the hash `checked`; otherwise return the error.

    Return `None` if the hash has changed since, so that the password must be verified again.
    """
    # An erasure that waits for the lock finds the session and the network address.
    user = User.by_email(session, email, hold=True)
    if (user.password_hash if user else None) != checked:
        return None
    record = partial(AuditEvent.record, session, origin=origin, user_id=user.id if user else None)
    if user is None or not holds or not user.active:
        record("sign-in", succeeded=False)
        return WrongCredentials()
    KnownAddress.note(session, user, origin)
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


def redeem_challenge(
    session: Session,
    seal: SecretBox,
    rules: SessionRules,
    origin: RequestOrigin,
    *,
    challenge: str,
    code: str,
) -> NewSession:
    """Complete a pending sign-in with a code, and start its session.

    Raises:
        InvalidChallenge: No pending sign-in matches the challenge. It is unknown, completed, older
            than 5 minutes, or its account is disabled or has ended its tokens.
        WrongCode: The code is incorrect or already used, or too many codes were tried.
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
