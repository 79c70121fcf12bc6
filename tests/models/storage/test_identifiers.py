from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.storage.identifiers import first_id_from, instant_of, new_id
from tests.models.together import together

pytestmark = pytest.mark.mission("M16")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)


def made_at(milliseconds: int, chance: int) -> UUID:
    """Make an identifier of some millisecond, as RFC 9562 lays it out in section 5.7."""
    random_a, random_b = divmod(chance, 1 << 62)
    return UUID(int=milliseconds << 80 | 7 << 76 | random_a << 64 | 2 << 62 | random_b)


def test_an_identifier_is_a_uuidv7_with_its_creation_time() -> None:
    before = datetime.now(UTC)
    identifier = new_id()
    after = datetime.now(UTC)

    assert isinstance(identifier, UUID)
    assert (identifier.version, identifier.variant) == (7, RFC_4122)
    assert before - MILLISECOND < instant_of(identifier) <= after


def test_identifiers_are_in_order_of_creation() -> None:
    identifiers = [new_id() for _ in range(2000)]

    assert all(first < second for first, second in pairwise(identifiers))
    assert sorted(identifiers, key=str) == identifiers


def test_identifiers_are_unique() -> None:
    made = together(*[lambda: [new_id() for _ in range(2000)]] * 4)

    identifiers = {each for batch in made if isinstance(batch, list) for each in batch}
    assert len(identifiers) == 8000


def test_bounds_are_exact_to_the_millisecond() -> None:
    instant = datetime(2026, 3, 29, 1, 30, 0, 123000, tzinfo=UTC)
    first, last = made_at(1774747800123, 0), made_at(1774747800123, (1 << 74) - 1)

    assert instant_of(first) == instant_of(last) == instant
    assert first_id_from(instant - MILLISECOND) < first_id_from(instant) < first
    assert first_id_from(instant - MILLISECOND + MICROSECOND) == first_id_from(instant)
    assert last < first_id_from(instant + MICROSECOND) == first_id_from(instant + MILLISECOND)


def test_the_time_zone_does_not_matter() -> None:
    instant = datetime.fromisoformat("2026-03-29T01:30:00.123+14:00")

    assert first_id_from(instant) == first_id_from(instant.astimezone(UTC))


@pytest.mark.parametrize(
    "instant", [datetime.min.replace(tzinfo=UTC), EPOCH - MICROSECOND, EPOCH, EPOCH + MICROSECOND]
)
def test_bounds_before_the_epoch_are_below_every_identifier(instant: datetime) -> None:
    assert first_id_from(instant) <= made_at(1, 0)
    assert (first_id_from(instant) <= made_at(0, 0)) == (instant <= EPOCH)


def test_bounds_cover_the_whole_calendar() -> None:
    latest = first_id_from(datetime.max.replace(tzinfo=UTC))

    assert new_id() < latest <= UUID(int=(1 << 128) - 1)


@given(
    st.integers(0, 253402300799999),
    st.integers(0, (1 << 74) - 1),
    st.datetimes(timezones=st.just(UTC)),
)
def test_identifiers_compare_with_bounds_like_their_times(
    milliseconds: int, chance: int, instant: datetime
) -> None:
    identifier = made_at(milliseconds, chance)

    assert instant_of(identifier) == EPOCH + milliseconds * MILLISECOND
    assert (identifier >= first_id_from(instant)) == (instant_of(identifier) >= instant)
    assert identifier >= first_id_from(instant_of(identifier))
    assert identifier < first_id_from(instant_of(identifier) + MICROSECOND)
