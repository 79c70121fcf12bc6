"""Audit events, for account owners and administrators."""

from datetime import datetime

from api.credentials.bearer import Caller
from models.identity.audit_event import AuditAction, AuditEvent
from models.storage.page import Page
from models.storage.reader import Reader


def list_audit_events(
    reader: Reader,
    caller: Caller,
    user_id: int | None,
    action: AuditAction | None,
    created_from: datetime | None,
    created_to: datetime | None,
    cursor: list[object] | None,
    limit: int,
) -> Page[AuditEvent]:
    """List the audit events of the accounts that the caller may see, failed attempts included."""
    return AuditEvent.page(
        reader,
        caller,
        user_id=user_id,
        action=action,
        created_from=created_from,
        created_to=created_to,
        after=cursor,
        limit=limit,
    )
