"""Signing in, staying signed in, and signing out."""

from sqlalchemy.orm import Session

from api.security import AccessToken, Caller, Tokens
from models.audit_event import Origin
from models.database import Database
from models.password import Passwords
from models.seal import Seal
from models.session import SessionRules, refresh_session
from models.sign_in import complete_sign_in as complete
from models.sign_in import sign_in
from models.token import sign_out as end_tokens


def create_token(
    database: Database,
    body: dict[str, str],
    passwords: Passwords,
    session_rules: SessionRules,
    tokens: Tokens,
    origin: Origin,
) -> AccessToken:
    """Begin a session for an email address and its password."""
    email, password = body["email"], body["password"]
    grant = sign_in(database, passwords, session_rules, origin, email=email, password=password)
    return tokens.issue(grant)


def complete_sign_in(
    session: Session,
    body: dict[str, str],
    seal: Seal,
    session_rules: SessionRules,
    tokens: Tokens,
    origin: Origin,
) -> AccessToken:
    """Begin the session of a sign-in that waits for a code."""
    challenge, code = body["challenge"], body["code"]
    return tokens.issue(
        complete(session, seal, session_rules, origin, challenge=challenge, code=code)
    )


def refresh_token(
    session: Session,
    body: dict[str, str],
    session_rules: SessionRules,
    tokens: Tokens,
    origin: Origin,
) -> AccessToken:
    """Go on with a session."""
    return tokens.issue(refresh_session(session, body["refresh_token"], session_rules, origin))


def sign_out(session: Session, caller: Caller, origin: Origin, *, everywhere: bool) -> None:
    """End the session in hand, or all tokens of the account."""
    end_tokens(session, caller, caller.token_id, everywhere=everywhere, origin=origin)
