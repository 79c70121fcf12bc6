"""Every table that refers to accounts must declare what an erasure does with its rows."""

import datetime as dt
import itertools
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from sqlalchemy import Column, Table, insert, select
from sqlalchemy.orm import Session

from models.accounts.account import erase_account
from models.identity.audit_event import RequestOrigin
from models.identity.user import User
from models.storage.base import ERASED, Base
from models.storage.database import Database
from models.storage.identifiers import new_id
from tests.factories import LIFECYCLE, ROOT, make_user

pytestmark = pytest.mark.mission("M11")

COLUMNS = sorted(
    (
        key.parent
        for table in Base.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name == "users"
    ),
    key=str,
)
GONE = [column for column in COLUMNS if column.info == ERASED]
_numbers = itertools.count(1)


@cache
def declared(column: Column[Any]) -> object:
    """The type that the model gives a column: `Mapped[...]` without `Mapped`."""
    (model,) = (each.class_ for each in Base.registry.mappers if column.table in each.tables)
    return get_args(get_type_hints(model)[column.key])[0]


def make_value(session: Session, column: Column[Any], user_id: int) -> object:
    """Make any value that a column takes; where it refers to a row, one of the account's."""
    for key in column.foreign_keys:
        if key.column.table.name == "users":
            return user_id
        return make_row(session, key.column.table, user_id)[key.column.key]
    kind = declared(column)
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    number = next(_numbers)
    made: dict[object, object] = {
        int: number,
        bool: True,
        str: str(number)[-(getattr(column.type, "length", None) or 9) :],
        bytes: b"%d" % number,
        UUID: new_id(),
        dt.datetime: dt.datetime.now(dt.UTC),
        list: [],
        dict: {},
    }
    return made[get_origin(kind) or kind]


def make_row(session: Session, table: Table, user_id: int) -> dict[Any, object]:
    """Store a row of a table that has what it must have, and is about an account."""
    values = {
        column.key: make_value(session, column, user_id)
        for column in table.columns
        if column in COLUMNS or not (column.nullable or column.identity or column.default)
    }
    return dict(session.execute(insert(table).values(values).returning(table)).mappings().one())


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_every_reference_to_an_account_declares_its_erasure(column: Column[Any]) -> None:
    reason = column.info.get("erasure", "")
    assert column.info == ERASED or len(reason.split()) > 3, f"{column}: erased, or kept because?"


@pytest.mark.parametrize("column", GONE, ids=str)
def test_erasing_an_account_removes_its_rows(database: Database, column: Column[Any]) -> None:
    user, other = make_user(database), make_user(database)

    def fill(session: Session) -> None:
        for each in (user, other):
            make_row(session, column.table, each.id)

    def erase(session: Session) -> None:
        erase_account(
            session, LIFECYCLE, session.get_one(User, user.id), by=ROOT, origin=RequestOrigin()
        )

    database.transact(fill, write=True)
    database.transact(erase, write=True)

    left = database.transact(lambda s: s.scalars(select(column)).all(), write=False)
    assert left == [other.id]
