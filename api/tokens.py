"""Handlers for sessions and API keys, for their owners and administrators."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict
from uuid import UUID

from sqlalchemy.orm import Session

from api.credentials.bearer import Caller
from models.errors import NotPermitted
from models.identity.audit_event import RequestOrigin
from models.identity.permission import grantable
from models.identity.token import Token, TokenKind
from models.identity.user import User
from models.storage.page import Page
from models.storage.reader import Reader


class KeyRequest(TypedDict):
    """A request body to create an API key."""

    name: str
    scopes: list[str]
    expires_in_days: int


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new API key; its text is shown only this once."""

    id: UUID
    name: str | None
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    key: str


def list_tokens(
    reader: Reader,
    caller: Caller,
    user_id: int | None,
    kind: TokenKind | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[Token]:
    """List the sessions and API keys of an account, newest first."""
    return Token.page(reader, caller, user_id=user_id, kind=kind, after=cursor, limit=limit)


def create_api_key(
    session: Session, caller: Caller, body: KeyRequest, origin: RequestOrigin
) -> NewKey:
    """Create an API key with scopes that the caller has."""
    scopes = sorted(set(body["scopes"]))
    if not grantable(caller.scopes).issuperset(scopes):
        raise NotPermitted("An API key cannot have scopes that you do not have.")
    user = User.locked(session, caller)
    user.require_current_token(caller)
    token, key = Token.create_key(
        session,
        user,
        name=body["name"],
        scopes=scopes,
        lifetime=timedelta(days=body["expires_in_days"]),
        origin=origin,
    )
    return NewKey(token.id, token.name, token.scopes, token.created_at, token.expires_at, key)


def get_token(reader: Reader, caller: Caller, token_id: UUID) -> Token:
    """Return a session or an API key."""
    return Token.visible_to(reader, caller, token_id)


def delete_token(session: Session, caller: Caller, token_id: UUID, origin: RequestOrigin) -> None:
    """Revoke a session or an API key."""
    Token.visible_to(session, caller, token_id).end(session, origin)
