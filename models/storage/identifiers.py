"""Identifiers that contain their creation time (UUIDv7, RFC 9562, section 5.7).

Sorting by id sorts by creation time, so one index serves a list by age, its pages and its time
bounds.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIME_SHIFT = 80
"""Number of bits below the timestamp: version, variant and random bits."""


def new_id() -> UUID:
    """Return a new identifier for the current millisecond."""
    return uuid7()


def instant_of(identifier: UUID) -> datetime:
    """Return the creation time of an identifier, to the millisecond."""
    return _EPOCH + (identifier.int >> _TIME_SHIFT) * _MILLISECOND


def first_id_from(instant: datetime) -> UUID:
    """Return the lower bound of all identifiers created at or after an instant."""
    milliseconds = -((_EPOCH - instant) // _MILLISECOND)
    return UUID(int=max(milliseconds, 0) << _TIME_SHIFT)
