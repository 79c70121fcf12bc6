"""Tokens, events and unclaimed accounts are read by indexes, on both databases (M14, M20)."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import product as combinations

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.accounts.unclaimed import find_unclaimed, is_unclaimed
from models.identity.audit_event import AuditAction, AuditEvent, RequestOrigin
from models.identity.token import Token
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.identifiers import new_id
from tests.databases import KINDS, make_database_url
from tests.factories import ROOT, Person, make_token, make_user
from tests.models.plans import explain

pytestmark = [pytest.mark.mission("M14"), pytest.mark.mission("M20")]

AFTER = [str(new_id())]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def filled(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Two accounts with some tokens and events, counted by the planner."""

    def record(session: Session) -> None:
        for user_id in (None, *users):
            for _ in range(100):
                AuditEvent.record(session, "sign-in", RequestOrigin(), user_id=user_id)

    with make_database_url(kind, tmp_path_factory.mktemp("filled")) as url:
        database = Database(url)
        users = [make_user(database).id for _ in range(2)]
        database.transact(record, write=True)
        database.transact(lambda session: session.execute(text("ANALYZE")), write=True)
        yield database
        database.dispose()


@pytest.mark.parametrize("after", [None, AFTER], ids=["first page", "later page"])
@pytest.mark.parametrize(
    ("user_id", "action", "is_bounded"),
    list(combinations((None, 1), (None, "sign-in"), (False, True))),
)
def test_events_are_read_in_the_order_of_an_index(
    filled: Database,
    kind: str,
    user_id: int | None,
    action: AuditAction | None,
    after: list[str] | None,
    *,
    is_bounded: bool,
) -> None:
    now = utcnow()
    bounds = {"created_from": now - timedelta(days=1), "created_to": now} if is_bounded else {}
    for actor in (ROOT, Person(1)):
        for plan in explain(
            filled,
            kind,
            lambda session, actor=actor: AuditEvent.page(  # type: ignore[misc]  # mypy infers no default
                session, actor, user_id=user_id, action=action, after=after, limit=25, **bounds
            ),
        ):
            assert not plan.whole_tables, plan.text
            assert not plan.unbounded_sorts, plan.text


@pytest.mark.parametrize("after", [None, AFTER], ids=["first page", "later page"])
def test_tokens_are_read_in_the_order_of_an_index(
    database: Database, kind: str, after: list[str] | None
) -> None:
    user = make_user(database)
    for _ in range(5):
        make_token(database, user)
    for plan in explain(
        database,
        kind,
        lambda session: Token.page(session, Person(user.id), after=after, limit=25),
    ):
        assert not plan.whole_tables, plan.text
        assert not plan.unbounded_sorts, plan.text


def test_unclaimed_accounts_are_found_by_their_age(filled: Database, kind: str) -> None:
    now = utcnow()
    unclaimed = is_unclaimed(now - timedelta(days=365), now - timedelta(days=30))
    [plan] = explain(filled, kind, lambda session: find_unclaimed(session, unclaimed))
    assert "ix_users_created_at_id" in plan.indexes, plan.text
    assert not plan.whole_tables, plan.text
    assert not plan.unbounded_sorts, plan.text


def test_the_events_of_a_person_are_found_by_indexes(filled: Database, kind: str) -> None:
    for plan in explain(filled, kind, lambda session: AuditEvent.about(session, 1, limit=25)):
        assert plan.indexes, plan.text
        assert not plan.whole_tables, plan.text
