"""Handlers to sign in, refresh tokens and sign out."""

from sqlalchemy.orm import Session

from api.credentials.access_tokens import AccessToken, Tokens
from api.credentials.bearer import Caller
from models.access.secret_box import SecretBox
from models.access.session import SessionRules, refresh_session
from models.access.sign_in import redeem_challenge, sign_in
from models.identity.audit_event import RequestOrigin
from models.identity.password import Passwords
from models.identity.token import end_tokens
from models.storage.database import Database


def create_token(
    database: Database,
    body: dict[str, str],
    passwords: Passwords,
    session_rules: SessionRules,
    tokens: Tokens,
    origin: RequestOrigin,
) -> AccessToken:
    """Start a session with an email address and password."""
    email, password = body["email"], body["password"]
    grant = sign_in(database, passwords, session_rules, origin, email=email, password=password)
    return tokens.issue(grant)


def complete_sign_in(
    session: Session,
    body: dict[str, str],
    seal: SecretBox,
    session_rules: SessionRules,
    tokens: Tokens,
    origin: RequestOrigin,
) -> AccessToken:
    """Complete a pending sign-in with a second-factor code."""
    challenge, code = body["challenge"], body["code"]
    return tokens.issue(
        redeem_challenge(session, seal, session_rules, origin, challenge=challenge, code=code)
    )


def refresh_token(
    session: Session,
    body: dict[str, str],
    session_rules: SessionRules,
    tokens: Tokens,
    origin: RequestOrigin,
) -> AccessToken:
    """Exchange a refresh token for new tokens of the same session."""
    return tokens.issue(refresh_session(session, body["refresh_token"], session_rules, origin))


def sign_out(session: Session, caller: Caller, origin: RequestOrigin, *, everywhere: bool) -> None:
    """End the current session, or revoke all tokens of the account."""
    end_tokens(session, caller, caller.token_id, everywhere=everywhere, origin=origin)
