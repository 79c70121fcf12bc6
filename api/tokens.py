"""Sessions and API keys, as their owners and administrators see them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict
from uuid import UUID

from sqlalchemy.orm import Session

from api.security import Caller
from models.audit_event import Origin
from models.errors import NotPermitted
from models.page import Page
from models.permission import grantable
from models.token import Token, TokenKind
from models.user import User


class KeyRequest(TypedDict):
    """What is asked for in a new API key."""

    name: str
    scopes: list[str]
    expires_in_days: int


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key with the one copy of its text."""

    id: UUID
    name: str | None
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    key: str


def list_tokens(
    session: Session,
    caller: Caller,
    user_id: int | None,
    kind: TokenKind | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[Token]:
    """List the sessions and API keys of an account, the newest first."""
    return Token.page(session, caller, user_id=user_id, kind=kind, after=cursor, limit=limit)


def create_api_key(session: Session, caller: Caller, body: KeyRequest, origin: Origin) -> NewKey:
    """Make an API key that may do less than its maker."""
    scopes = sorted(set(body["scopes"]))
    if not grantable(caller.scopes).issuperset(scopes):
        raise NotPermitted("A key can have no scope that you do not have.")
    user = User.of(session, caller)
    user.require_standing(caller)
    token, key = Token.create_key(
        session,
        user,
        name=body["name"],
        scopes=scopes,
        lifetime=timedelta(days=body["expires_in_days"]),
        origin=origin,
    )
    return NewKey(token.id, token.name, token.scopes, token.created_at, token.expires_at, key)


def get_token(session: Session, caller: Caller, token_id: str) -> Token:
    """Read a session or an API key."""
    return Token.visible_to(session, caller, UUID(token_id))


def delete_token(session: Session, caller: Caller, token_id: str, origin: Origin) -> None:
    """End a session or an API key."""
    Token.visible_to(session, caller, UUID(token_id)).end(session, origin)
