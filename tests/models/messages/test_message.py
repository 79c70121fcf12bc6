"""The outbox: each committed message is sent once, or again if its sender dies."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.accounts.account import erase_account
from models.identity.audit_event import AuditEvent, RequestOrigin
from models.identity.one_time_token import OneTimeToken
from models.identity.user import User
from models.messages import outbox
from models.messages.message import Letter, Message, MessageKind, Withheld
from models.messages.outbox import take_letters
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.identifiers import first_id_from
from tests.databases import change_all
from tests.factories import LIFECYCLE, ROOT, make_user
from tests.models.actions import change_user, erase_user
from tests.models.reading import read_user
from tests.models.together import together

pytestmark = pytest.mark.mission("M24")


def enqueue(
    database: Database, kind: MessageKind, user: User | None, *, email: str | None = None
) -> None:
    user_id = user.id if user else None
    work = partial(Message.enqueue, kind=kind, user_id=user_id, email=email)
    database.transact(work, write=True)


def take(database: Database) -> Letter | Withheld | None:
    work = partial(take_letters, mailbox_key=b"a key", limit=1)
    return next(iter(database.transact(work, write=True)), None)


def taken(database: Database) -> Letter:
    letter = take(database)
    assert isinstance(letter, Letter)
    return letter


def make_due(database: Database) -> None:
    """Let the leases and the pauses of all messages be over."""
    database.transact(lambda s: s.execute(update(Message).values(due_at=utcnow())), write=True)


def due_at(database: Database) -> datetime:
    return database.transact(lambda s: s.scalars(select(Message.due_at)).one(), write=False)


def count(database: Database, table: type[Message | OneTimeToken]) -> int:
    query = select(func.count()).select_from(table)
    return database.transact(lambda s: s.scalar(query), write=False) or 0


def issue(database: Database, user: User) -> None:
    work = partial(
        OneTimeToken.issue, user=user, purpose="set_password", lifetime=timedelta(minutes=70)
    )
    database.transact(work, write=True)


def holds(database: Database, letter: Letter) -> bool:
    """Whether the secret of a letter is good."""

    def find(session: Session) -> bool:
        assert letter.link is not None
        assert letter.secret is not None
        return OneTimeToken.find(session, letter.link.purpose, letter.secret) is not None

    return database.transact(find, write=False)


def test_a_message_is_sent_only_if_its_transaction_commits(database: Database) -> None:
    user = make_user(database)

    def fail(session: Session) -> None:
        Message.enqueue(session, "welcome", user.id)
        session.flush()
        raise LookupError

    with pytest.raises(LookupError):
        database.transact(fail, write=True)
    assert not database.transact(Message.is_any_due, write=False)
    enqueue(database, "welcome", user)
    assert database.transact(Message.is_any_due, write=False)
    letter = taken(database)
    assert (letter.kind, letter.to, letter.name) == ("welcome", user.email, user.name)
    assert letter.secret is not None
    assert letter.secret not in repr(letter)


@pytest.mark.parametrize(
    ("kind", "purpose", "hours"),
    [
        ("welcome", "verify_email", 24),
        ("verify_email", "verify_email", 24),
        ("change_email", "change_email", 24),
        ("set_password", "set_password", 1),
    ],
)
def test_the_link_in_a_message_is_valid_as_long_as_it_says(
    database: Database, kind: MessageKind, purpose: str, hours: int
) -> None:
    enqueue(database, kind, make_user(database))
    letter = taken(database)
    assert letter.link == (purpose, timedelta(hours=hours))
    token = database.transact(lambda s: s.scalars(select(OneTimeToken)).one(), write=False)
    assert (token.purpose, token.email) == (purpose, letter.to)
    assert token.expires_at - token.created_at == timedelta(hours=hours)


def test_an_account_without_password_is_welcomed_with_a_link(database: Database) -> None:
    enqueue(database, "welcome", make_user(database, password_hash=None))
    assert taken(database).link == ("set_password", timedelta(days=7))


@pytest.mark.parametrize("kind", ["password_changed", "email_changed"])
def test_a_notice_has_no_link(database: Database, kind: MessageKind) -> None:
    enqueue(database, kind, make_user(database), email="old@example.com")
    letter = taken(database)
    assert (letter.link, letter.secret, letter.to) == (None, None, "old@example.com")
    assert count(database, OneTimeToken) == 0


def test_concurrent_senders_take_each_message_once(database: Database) -> None:
    for _ in range(9):
        enqueue(database, "welcome", make_user(database))

    def drain() -> list[Letter]:
        taken = iter(partial(take, database), None)
        return [letter for letter in taken if isinstance(letter, Letter)]

    drained = [each for each in together(*[drain] * 3) if isinstance(each, list)]
    letters = [letter for each in drained for letter in each]
    assert len(letters) == len({letter.id for letter in letters}) == 9


def test_only_messages_of_dead_senders_are_taken_over(database: Database) -> None:
    enqueue(database, "set_password", make_user(database))
    first = taken(database)
    assert take(database) is None
    assert due_at(database) > utcnow() + timedelta(seconds=50)

    make_due(database)
    second = taken(database)
    assert (second.id, second.attempt) == (first.id, 2)
    # The first may have been sent before its sender died: both links are good.
    assert holds(database, first)
    assert holds(database, second)

    # Whoever was only slow does not remove, and does not put off, what is another's now.
    database.transact(partial(Message.remove, letters=[first]), write=True)
    before = due_at(database)
    database.transact(partial(Message.postpone, letter=first), write=True)
    assert due_at(database) == before
    database.transact(partial(Message.remove, letters=[second]), write=True)
    assert count(database, Message) == 0


def test_another_link_ends_none_and_surplus_links_are_removed(database: Database) -> None:
    user = make_user(database, password_hash=None)
    enqueue(database, "welcome", user)
    invitation = taken(database)
    enqueue(database, "set_password", user)
    reset = taken(database)
    for _ in range(17):
        issue(database, user)
    assert holds(database, invitation)
    assert holds(database, reset)
    for _ in range(40):
        issue(database, user)
    # The invitation lasts for a week, and the resets for an hour.
    assert holds(database, invitation)
    assert not holds(database, reset)
    assert count(database, OneTimeToken) == 20


def test_a_link_requested_during_an_erasure_is_not_sent(database: Database) -> None:
    user = make_user(database)

    def request() -> Letter | Withheld | None:
        enqueue(database, "set_password", None, email=user.email_key)
        return take(database)

    with ThreadPoolExecutor(1) as pool:

        def erase(session: Session) -> Future[Letter | Withheld | None]:
            account = User.visible_to(session, ROOT, user.id)
            erase_account(session, LIFECYCLE, account, by=ROOT, origin=RequestOrigin())
            session.flush()
            requested = pool.submit(request)
            wait([requested], 0.5)
            return requested

        assert database.transact(erase).result(10) is None
    assert (count(database, Message), count(database, OneTimeToken)) == (0, 0)


def test_a_failing_message_is_retried_with_growing_pauses(database: Database) -> None:
    enqueue(database, "welcome", make_user(database))
    pauses = []
    for minutes in (0, 1, 20, 600):
        age = update(Message).values(created_at=utcnow() - timedelta(minutes=minutes))
        database.transact(partial(Session.execute, statement=age), write=True)
        make_due(database)
        letter = taken(database)
        assert database.transact(partial(Message.postpone, letter=letter), write=True)
        pauses.append((due_at(database) - utcnow()).total_seconds())
    assert 4 <= pauses[0] <= 10
    assert 29 <= pauses[1] <= 70
    assert 590 <= pauses[2] <= 1210
    assert 1790 <= pauses[3] <= 3600


def test_a_message_is_given_up_after_three_days(database: Database) -> None:
    enqueue(database, "welcome", make_user(database))
    for days, goes_on in ((2.9, True), (3.1, False)):
        age = update(Message).values(created_at=utcnow() - timedelta(days=days), due_at=utcnow())
        database.transact(partial(Session.execute, statement=age), write=True)
        letter = taken(database)
        assert database.transact(partial(Message.postpone, letter=letter), write=True) is goes_on
    assert count(database, Message) == 0


def test_an_obsolete_message_is_dropped_and_delays_no_other(database: Database) -> None:
    verified, disabled, erased, other = (make_user(database) for _ in range(4))
    for _ in range(30):
        enqueue(database, "set_password", None, email="nobody@example.com")
    enqueue(database, "verify_email", verified)
    enqueue(database, "set_password", disabled)
    enqueue(database, "password_changed", erased)
    enqueue(database, "welcome", other)
    database.transact(lambda s: s.get_one(User, verified.id).verify_email(s), write=True)
    change_user(database, disabled.id, active=False)
    erase_user(database, erased.id)

    letters = [letter for _ in range(3) if isinstance(letter := take(database), Letter)]

    assert [letter.to for letter in letters] == [other.email]
    assert count(database, Message) == count(database, OneTimeToken) == 1


def test_ending_the_tokens_of_an_account_ends_a_pending_move(database: Database) -> None:
    user = make_user(database)
    ask = partial(Message.enqueue, user_id=user.id, token_version=user.token_version)
    move = partial(ask, kind="change_email", email="new@example.com")
    database.transact(move, write=True)
    assert taken(database).kind == "change_email"

    database.transact(lambda s: s.get_one(User, user.id).end_tokens(s), write=True)

    make_due(database)
    assert take(database) is None
    assert count(database, Message) == 0


def test_messages_for_unknown_addresses_delay_no_other(database: Database) -> None:
    for number in range(130):
        enqueue(database, "set_password", None, email=f"nobody{number}@example.com")
    user = make_user(database)
    enqueue(database, "welcome", user)
    assert taken(database).to == user.email
    assert count(database, Message) == 1


def test_one_transaction_searches_a_bounded_number_of_messages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_BATCHES", 2)
    for _ in range(50):
        enqueue(database, "set_password", None, email="nobody@example.com")
    assert take(database) is None
    assert count(database, Message) == 10
    assert take(database) is None
    assert count(database, Message) == 0


def make_older(session: Session, by: timedelta) -> None:
    for each in session.scalars(select(Message)):
        each.id = UUID(int=first_id_from(utcnow() - by).int + each.id.int % 2**80)


def test_undeliverable_messages_are_removed(database: Database) -> None:
    for _ in range(5):
        enqueue(database, "welcome", make_user(database))
    old = timedelta(days=3, minutes=59)
    for age, left in ((old, 6), (old + timedelta(minutes=2), 1)):
        database.transact(partial(make_older, by=age), write=True)
        enqueue(database, "welcome", make_user(database))
        change_all(database, Message.purge)
        assert count(database, Message) == left


def test_a_message_to_an_address_goes_to_the_account_that_has_it(database: Database) -> None:
    user = make_user(database, email="Alice@example.com")
    origin = RequestOrigin(address="192.0.2.7", request_id="a-request")
    ask = partial(Message.enqueue, kind="set_password", user_id=None, origin=origin)
    for email in ("nobody@example.com", "alice@example.com", "no address"):
        database.transact(partial(ask, email=email), write=True)

    letter = taken(database)
    assert (letter.to, letter.name) == ("Alice@example.com", user.name)
    make_due(database)
    assert (taken(database).id, take(database)) == (letter.id, None)

    query = select(AuditEvent).order_by(AuditEvent.id)
    events = database.transact(lambda s: s.scalars(query).all(), write=False)
    told = [(event.user_id, event.succeeded, event.address, event.request_id) for event in events]
    here = ("192.0.2.7", "a-request")
    assert told == [(None, False, *here), (user.id, True, *here), (None, False, *here)]


def test_a_message_goes_to_the_current_address(database: Database) -> None:
    user = make_user(database)
    enqueue(database, "password_changed", user)
    change_user(database, user.id, email="moved@example.com")
    assert taken(database).to == "moved@example.com"
    assert read_user(database, user.id).email_verified
