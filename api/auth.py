"""Signing in."""

from sqlalchemy.orm import Session

from api.security import AccessToken, Tokens
from models.account import sign_in
from models.password import Passwords


def create_token(
    session: Session, body: dict[str, str], passwords: Passwords, tokens: Tokens
) -> AccessToken:
    """Give a token for an email address and its password."""
    return tokens.issue(sign_in(session, passwords, body["email"], body["password"]))
