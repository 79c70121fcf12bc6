"""Payment events on both databases: their list, their key, and their order (MISSION M29)."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.errors import PaymentNotRecorded
from models.payments.payment_event import Outcome, PaymentEvent, Report
from models.storage.database import Database
from models.storage.identifiers import new_id
from tests.factories import HALF_AN_HOUR, LIFECYCLE, make_order
from tests.models.books import check_books
from tests.models.plans import explain
from tests.models.reading import read_order
from tests.models.together import together

pytestmark = pytest.mark.mission("M29")


def receive(database: Database, report: Report) -> str | None:
    """Receive a report, and give its outcome; `None` if it was received before."""

    def work(session: Session) -> str | None:
        event = PaymentEvent.receive(session, report, LIFECYCLE, reservation=HALF_AN_HOUR)
        return None if event is None else event.outcome

    return database.transact(work, write=True)


def test_reports_in_any_order_lead_to_the_same_books(database: Database) -> None:
    order = make_order(database)
    price = {"amount": order.total_amount, "currency": order.currency}
    paid = Report("acme", "1", "payment", "tr_1", order_id=order.id, amount=price)  # type: ignore[arg-type]  # mypy infers no TypedDict.
    bounced = Report("acme", "2", "bounce", "tr_1", order_id=order.id)
    with pytest.raises(PaymentNotRecorded):
        receive(database, bounced)
    outcomes = [receive(database, each) for each in (paid, bounced, paid, bounced)]
    assert outcomes == ["applied", "applied", None, None]
    left = read_order(database, order)
    assert (left.status, left.paid.amount, left.due.amount) == ("pending", 0, order.total_amount)
    check_books(database)


def test_simultaneous_reports_act_once(database: Database) -> None:
    order = make_order(database)
    price = {"amount": 100, "currency": order.currency}
    report = Report("acme", "1", "payment", "tr_1", order_id=order.id, amount=price)  # type: ignore[arg-type]  # as above.
    found = together(*[lambda: receive(database, report)] * 6)
    assert sorted(map(str, found)) == ["None"] * 5 + ["applied"]
    assert read_order(database, order).paid.amount == 100
    check_books(database)


@pytest.mark.parametrize("outcome", [None, "refused"])
@pytest.mark.parametrize("after", [None, [str(new_id())]], ids=["first page", "later page"])
def test_events_are_read_in_the_order_of_an_index(
    database: Database, kind: str, outcome: Outcome | None, after: list[str] | None
) -> None:
    for number in range(100):
        receive(database, Report("acme", str(number), "payment", "tr_1"))
    database.transact(lambda session: session.execute(text("ANALYZE")), write=True)
    for plan in explain(
        database,
        kind,
        lambda session: PaymentEvent.page(session, outcome=outcome, after=after, limit=25),
    ):
        assert plan.indexes, plan.text
        assert not plan.whole_tables, plan.text
        assert not plan.unbounded_sorts, plan.text
