"""Every table with data of a person is in the export, or it is said why not (MISSION M30)."""

from typing import Any

import pytest
from sqlalchemy import Column
from sqlalchemy.orm import Session

from models.accounts.person_export import export_person
from models.storage.base import Base
from models.storage.database import Database
from tests.factories import Person, make_user
from tests.models.identity.test_erasure_declared import make_row

pytestmark = pytest.mark.mission("M30")

EXPORTED = {
    "audit_events.actor_id": "audit_events",
    "audit_events.user_id": "audit_events",
    "known_addresses.user_id": "known_addresses",
    "messages.user_id": "messages",
    "one_time_tokens.user_id": "links",
    "orders.user_id": "orders",
    "tokens.user_id": "tokens",
}
"""The columns that name a person, and the member of the export that has their rows."""

NOT_EXPORTED = {
    "idempotency_records.owner_id": "copies of responses that were sent to others",
    "idempotency_records.user_id": "copies of responses that were sent to the person",
    "order_events.actor_id": "those of the person's own orders are exported with the orders",
    "picture_uses.user_id": "the picture is in the account",
    "recovery_codes.user_id": "hashes of secrets, of which second_factor has the number",
    "second_factors.user_id": "sealed secrets, of which second_factor tells the state",
    "stock_entries.actor_id": "records of work, which name an account by number only",
    "user_terms.user_id": "words of the name and the address, which are in the account",
}
"""The other columns that name a person, and why their rows are left out."""


def names_a_person(column: Column[Any]) -> bool:
    refers = any(key.column.table.name == "users" for key in column.foreign_keys)
    return refers or column.name in {"user_id", "actor_id", "owner_id"}


COLUMNS = {
    str(column): column
    for table in Base.metadata.sorted_tables
    for column in table.columns
    if names_a_person(column)
}


def test_every_column_that_names_a_person_is_declared() -> None:
    assert sorted(COLUMNS) == sorted([*EXPORTED, *NOT_EXPORTED])
    assert all(len(reason.split()) > 3 for reason in NOT_EXPORTED.values())


@pytest.mark.parametrize("name", EXPORTED)
def test_the_export_has_the_rows_of_the_person_only(database: Database, name: str) -> None:
    user, other = make_user(database), make_user(database)
    column = COLUMNS[name]

    def fill(session: Session) -> None:
        row = {column.key: user.id}
        made = make_row(session, column.table, user.id)
        key = next(iter(column.table.primary_key))
        session.execute(column.table.update().where(key == made[key.key]).values(row))

    def count(session: Session, user_id: int) -> int:
        return len(getattr(export_person(session, Person(user_id)), EXPORTED[name]))

    def counts(session: Session) -> list[int]:
        return [count(session, each.id) for each in (user, other)]

    assert database.transact(counts, write=False) == [0, 0]
    database.transact(fill, write=True)
    assert database.transact(counts, write=False) == [1, 0]
