"""Handlers for the event feed, for programs that keep up with changes."""

from uuid import UUID

from models.events.feed import FeedPage, read_events
from models.storage.reader import Reader


def list_events(
    reader: Reader,
    type: list[str] | None,  # noqa: A002 - the parameter's name in the contract.
    after: UUID | None,
    limit: int,
) -> FeedPage:
    """List the events after a given one, in the order of the feed."""
    return read_events(reader, types=type, after=after, limit=limit)
