from collections.abc import Callable

import pytest

from models.errors import LastAdministrator
from models.storage.database import Database
from tests.factories import make_user
from tests.models.actions import change_user, erase_user
from tests.models.reading import read_page, read_user
from tests.models.together import together

REMOVALS: dict[str, Callable[[Database, int], object]] = {
    "demoted": lambda database, user_id: change_user(database, user_id, role="user"),
    "disabled": lambda database, user_id: change_user(database, user_id, active=False),
    "erased": erase_user,
}

removals = pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS.keys())


@removals
def test_the_last_administrator_cannot_be_removed(
    database: Database, remove: Callable[[Database, int], object]
) -> None:
    admin = make_user(database, role="admin")
    make_user(database, role="admin", active=False)
    make_user(database)
    erase_user(database, make_user(database, role="admin").id)

    with pytest.raises(LastAdministrator):
        remove(database, admin.id)

    left = read_user(database, admin.id)
    assert (left.role, left.active, left.version) == ("admin", True, 1)


@removals
def test_an_administrator_can_be_removed_if_another_stays(
    database: Database, remove: Callable[[Database, int], object]
) -> None:
    first, second = make_user(database, role="admin"), make_user(database, role="admin")

    remove(database, first.id)

    with pytest.raises(LastAdministrator):
        remove(database, second.id)


@removals
def test_the_rule_applies_to_administrators_only(
    database: Database, remove: Callable[[Database, int], object]
) -> None:
    remove(database, make_user(database).id)
    remove(database, make_user(database, role="admin", active=False).id)


def test_the_last_administrator_may_change_otherwise(database: Database) -> None:
    admin = make_user(database, role="admin")

    change_user(database, admin.id, name="Root", email="r@example.com", role="admin", active=True)


@pytest.mark.parametrize("attempt", range(3))
def test_administrators_who_remove_each_other_leave_one(database: Database, attempt: int) -> None:
    admins = [make_user(database, role="admin").id for _ in range(6)]
    ways = list(REMOVALS.values())

    results = together(
        *(
            lambda user_id=user_id, remove=ways[(number + attempt) % 3]: remove(database, user_id)
            for number, user_id in enumerate(admins)
        )
    )

    assert [type(r) for r in results if isinstance(r, Exception)] == [LastAdministrator]
    assert len(read_page(database, role="admin", active=True).items) == 1
