"""A mailbox is sent a bounded number of messages, whatever strangers do (TRUST 4, 43)."""

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from models.identity.audit_event import AuditEvent
from models.identity.user import User
from models.messages import mailbox
from models.messages.mailbox import (
    NOTICE,
    PASSWORD_LINK,
    SOLICITED_BY_ANYONE,
    MailboxUse,
    MessageAllowance,
    mailbox_of,
)
from models.messages.message import Letter, Message, MessageKind, Withheld
from models.messages.outbox import take_letters
from models.storage.base import utcnow
from models.storage.database import Database
from tests.databases import change_all
from tests.factories import make_user
from tests.models.actions import erase_user
from tests.models.together import together

pytestmark = pytest.mark.mission("M24")

KEY = b"a key"
BOX = mailbox_of("alice@example.com", KEY)


class Clock:
    """The time that mailboxes go by."""

    def __init__(self) -> None:
        self.now = utcnow()

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(mailbox, "utcnow", clock)
    return clock


def spend(database: Database, allowance: MessageAllowance, box: bytes = BOX) -> bool:
    pair = box, allowance.name

    def work(session: Session) -> bool:
        return MailboxUse.lock_all(session, [pair])[pair].spend(allowance)

    return database.transact(work, write=True)


def enqueue(database: Database, kind: MessageKind, user: User, email: str | None = None) -> None:
    work = partial(Message.enqueue, kind=kind, user_id=user.id, email=email)
    database.transact(work, write=True)


def outbox(database: Database) -> Iterator[Letter | Withheld]:
    """Take all messages that are due."""
    take = partial(take_letters, mailbox_key=KEY)
    batches = iter(partial(database.transact, take, write=True), [])
    return itertools.chain.from_iterable(batches)


def sent(database: Database) -> list[str]:
    """Take all messages that are due, and list the kinds of those that are sent."""
    return [each.kind for each in outbox(database) if isinstance(each, Letter)]


@pytest.mark.parametrize(
    ("allowance", "burst", "in_a_day"),
    [(SOLICITED_BY_ANYONE, 5, 10), (NOTICE, 25, 50), (PASSWORD_LINK, 1, 25)],
    ids=lambda each: getattr(each, "name", None),
)
def test_an_allowance_limits_every_day(
    database: Database, clock: Clock, allowance: MessageAllowance, burst: int, in_a_day: int
) -> None:
    times = []
    for _ in range(4 * 48):
        while spend(database, allowance):
            times.append(clock.now)
        clock.now += timedelta(minutes=15)
    assert times[:burst] == [times[0]] * burst
    for start in times:
        day = [each for each in times if start <= each < start + timedelta(days=1)]
        assert len(day) <= in_a_day
    # Whoever is patient is not refused for longer than an interval.
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) <= allowance.interval + timedelta(minutes=15)


@pytest.mark.parametrize(
    ("email", "is_same"),
    [
        ("Alice@Example.com", True),
        ("alice+1@example.com", True),
        ("ALICE+a+b@example.com", True),
        ("+alice@example.com", False),
        ("al.ice@example.com", False),
        ("alice@example.org", False),
    ],
)
def test_case_and_tags_do_not_distinguish_mailboxes(email: str, is_same: bool) -> None:  # noqa: FBT001 - a parameter.
    assert (mailbox_of(email, KEY) == BOX) is is_same
    assert mailbox_of("alice@example.com", b"another key") != BOX


def test_concurrent_messages_do_not_exceed_an_allowance(database: Database) -> None:
    spent = together(*[partial(spend, database, SOLICITED_BY_ANYONE)] * 12)
    assert sorted(spent, key=bool) == [False] * 7 + [True] * 5


def test_a_row_that_is_purged_meanwhile_is_created_again(database: Database) -> None:
    spend(database, SOLICITED_BY_ANYONE)
    with ThreadPoolExecutor(1) as pool:

        def purge(session: Session) -> Future[bool]:
            session.scalars(select(MailboxUse).with_for_update()).one()
            another = pool.submit(spend, database, SOLICITED_BY_ANYONE)
            wait([another], 0.5)
            session.execute(delete(MailboxUse))
            return another

        assert database.transact(purge).result(10)


def test_repeated_registration_sends_no_more_messages(database: Database) -> None:
    letters = []
    for number in range(12):
        user = make_user(database, email=f"victim+{number}@example.com")
        enqueue(database, "welcome", user)
        letters += sent(database)
        erase_user(database, user.id)
    assert letters == ["welcome"] * 5


def test_a_flood_sends_five_and_the_rest_is_recorded(database: Database) -> None:
    kinds: list[MessageKind] = ["welcome", "verify_email", "change_email"]
    other = make_user(database)
    for number in range(12):
        user = make_user(database, email=f"victim+{number}@example.com")
        if kinds[number % 3] == "change_email":
            enqueue(database, "change_email", other, f"VICTIM+{number}@example.com")
        else:
            enqueue(database, kinds[number % 3], user)
    enqueue(database, "welcome", other)
    taken = list(outbox(database))
    assert sum(isinstance(each, Withheld) for each in taken) == 7
    letters = [each for each in taken if isinstance(each, Letter)]
    assert [each.to for each in letters if "victim" not in each.to.lower()] == [other.email]
    assert len(letters) == 6


def test_a_flood_does_not_block_links_and_notices_of_the_owner(
    database: Database, clock: Clock
) -> None:
    owner = make_user(database, email="owner@example.com")
    for _ in range(9):
        enqueue(database, "verify_email", owner)
    assert sent(database) == ["verify_email"] * 5
    database.transact(lambda s: s.get_one(User, owner.id).verify_email(s), write=True)
    for _ in range(4):
        for kind in ("set_password", "set_password", "password_changed"):
            enqueue(database, kind, owner)
        assert sorted(sent(database)) == ["password_changed", "set_password"]
        clock.now += timedelta(minutes=61)


def test_notices_of_unverified_accounts_do_not_use_the_allowance(database: Database) -> None:
    owner = make_user(database, email="owner@example.com", verified=True)
    for number in range(12):
        stranger = make_user(database, email=f"owner+{number}@example.com")
        for _ in range(5):
            enqueue(database, "password_changed", stranger)
    assert sent(database) == ["password_changed"] * 5
    enqueue(database, "password_changed", owner)
    assert sent(database) == ["password_changed"]


def test_resets_of_tagged_accounts_do_not_use_the_owners_link(
    database: Database, clock: Clock
) -> None:
    owner = make_user(database, email="owner@example.com")
    verified = make_user(database, email="owner+shop@example.com")
    database.transact(lambda s: s.get_one(User, verified.id).verify_email(s), write=True)
    strangers = [make_user(database, email=f"owner+{n}@example.com") for n in range(12)]
    numbers = []
    for _ in range(4):
        for stranger in strangers:
            enqueue(database, "set_password", stranger)
        numbers.append(len(sent(database)))
        for user in (owner, verified):
            enqueue(database, "set_password", user)
            assert sent(database) == ["set_password"]
        clock.now += timedelta(minutes=61)
    # However many the tags are, they have one link an hour together besides the mailbox's five.
    assert numbers == [6, 1, 1, 1]


def test_a_retry_is_not_another_message(database: Database) -> None:
    user = make_user(database)
    enqueue(database, "welcome", user)
    for attempt in range(1, 10):
        database.transact(lambda s: s.query(Message).update({"due_at": utcnow()}), write=True)
        [letter] = outbox(database)
        assert isinstance(letter, Letter)
        assert letter.attempt == attempt


def test_a_withheld_reset_is_recorded_as_refused(database: Database) -> None:
    user = make_user(database, email="owner@example.com")
    for _ in range(8):
        ask = partial(Message.enqueue, kind="set_password", user_id=None, email=user.email_key)
        database.transact(ask, write=True)
    list(outbox(database))
    query = select(AuditEvent.succeeded, func.count()).group_by(AuditEvent.succeeded)
    rows = database.transact(
        lambda s: s.execute(query.where(AuditEvent.user_id == user.id)).all(), write=False
    )
    assert sorted((succeeded, number) for succeeded, number in rows) == [(False, 2), (True, 6)]


def test_only_a_hash_of_a_mailbox_is_kept_for_a_day(database: Database, clock: Clock) -> None:
    enqueue(database, "welcome", make_user(database, email="zebedee@example.com"))
    list(outbox(database))

    def rows() -> list[MailboxUse]:
        return database.transact(lambda s: list(s.scalars(select(MailboxUse))), write=False)

    [use] = rows()
    assert use.mailbox == mailbox_of("zebedee@example.com", KEY)
    change_all(database, MailboxUse.purge)
    assert len(rows()) == 1
    clock.now += timedelta(days=1)
    change_all(database, MailboxUse.purge)
    assert rows() == []
