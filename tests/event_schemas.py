"""Checks events against the schemas of their types, which the contract declares as webhooks."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import select

from api.contract.compile.published import WEBHOOKS
from api.contract.compile.schemas import SchemaNode, Validator
from models.events.event import Event
from models.storage.database import Database
from tests.our_document import our_document


def schema_of(event_type: str) -> SchemaNode:
    """Return the schema of the body that the contract declares for a type of event."""
    sent = our_document().bundle[WEBHOOKS][event_type]["post"]["requestBody"]
    schema: SchemaNode = sent["content"]["application/json"]["schema"]
    return schema


@cache
def validator_of(event_type: str) -> Validator:
    """Return the validator of a type of event."""
    return Validator(our_document().bundle, schema_of(event_type))


def check_event(event: Mapping[str, Any]) -> None:
    """Check an event, as clients receive it, against the schema of its type."""
    violation = validator_of(event["type"]).violation(event)
    assert violation is None, (violation, event)


def check_written_events(database: Database) -> None:
    """Check all events in a database."""
    for event in database.read(lambda reader: reader.scalars(select(Event)).all()):
        created_at = event.created_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        check_event(
            {
                "id": str(event.id),
                "type": event.type,
                "created_at": created_at,
                "subject": event.subject,
                "version": event.version,
                "data": event.data._asdict(),
            }
        )
