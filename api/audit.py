"""What happened to accounts, for their owners and for administrators."""

from sqlalchemy.orm import Session

from api.instants import instant
from api.security import Caller
from models.audit_event import AuditAction, AuditEvent
from models.page import Page


def list_audit_events(
    session: Session,
    caller: Caller,
    user_id: int | None,
    action: AuditAction | None,
    created_from: str | None,
    created_to: str | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[AuditEvent]:
    """List what was done, or tried, to the accounts that the caller may know of."""
    return AuditEvent.page(
        session,
        caller,
        user_id=user_id,
        action=action,
        created_from=instant(created_from),
        created_to=instant(created_to),
        after=cursor,
        limit=limit,
    )
