"""Identifiers that carry the time at which they were made (UUIDv7, RFC 9562, section 5.7).

In their order rows are in the order in which they were made, so that one index serves a list by
age, its pages, and its bounds in time.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIME_SHIFT = 80
"""The bits below the time: version, variant and chance."""


def new_id() -> UUID:
    """Make an identifier for the present millisecond."""
    return uuid7()


def instant_of(identifier: UUID) -> datetime:
    """Tell when an identifier was made, to the millisecond."""
    return _EPOCH + (identifier.int >> _TIME_SHIFT) * _MILLISECOND


def first_id_from(instant: datetime) -> UUID:
    """Give the lower bound of all identifiers made at this instant or later."""
    milliseconds = -((_EPOCH - instant) // _MILLISECOND)
    return UUID(int=max(milliseconds, 0) << _TIME_SHIFT)
