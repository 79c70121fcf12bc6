import threading
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.access.token_status import TokenStatuses
from models.accounts.account import erase_account
from models.identity.audit_event import RequestOrigin
from models.identity.user import User
from models.storage.base import utcnow
from models.storage.batches import change_batch
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord, KeptAnswer
from tests.databases import change_all
from tests.factories import LIFECYCLE, ROOT, make_token, make_user
from tests.models.together import together

TOKEN_STATUSES = TokenStatuses(strict_administrators=False)
HEADERS = [["ETag", '"1"'], ["Location", "http://concord.example/v1/orders/1"]]


def record(user_id: int, key: str = "key", *, age: float = 0) -> IdempotencyRecord:
    return IdempotencyRecord(
        user_id=user_id,
        key=key,
        fingerprint=b"\0\xff" * 16,
        status=201,
        headers=HEADERS,
        body=b'{"name":"Zo\xc3\xab"}',
        created_at=utcnow() - timedelta(seconds=age),
    )


def store(database: Database, *records: IdempotencyRecord) -> None:
    def work(session: Session) -> None:
        for each in records:
            session.add(each)

    database.transact(work, write=True)


def kept(database: Database) -> list[str]:
    query = select(IdempotencyRecord.key).order_by(IdempotencyRecord.key)
    return database.transact(lambda session: list(session.scalars(query)), write=False)


def test_a_record_is_found_by_user_and_key(database: Database) -> None:
    alice, bob = make_user(database), make_user(database)
    store(database, record(alice.id))

    def find(user_id: int, key: str) -> KeptAnswer | None:
        return database.transact(
            lambda session: IdempotencyRecord.find(session, user_id, key)(), write=False
        )

    found = find(alice.id, "key")
    assert found is not None
    assert (found.status, found.headers) == (201, HEADERS)
    assert (found.fingerprint, found.body) == (b"\0\xff" * 16, b'{"name":"Zo\xc3\xab"}')
    assert find(alice.id, "Key") is find(alice.id, "key ") is find(bob.id, "key") is None


def test_a_key_belongs_to_one_user(database: Database) -> None:
    alice, bob = make_user(database), make_user(database)
    store(database, record(alice.id), record(bob.id))

    with pytest.raises(IntegrityError):
        store(database, record(alice.id))
    with pytest.raises(IntegrityError):
        store(database, record(987_654))


def test_only_expired_records_are_deleted(database: Database) -> None:
    alice = make_user(database)
    store(database, *(record(alice.id, str(n), age=100) for n in range(1203)), record(alice.id))

    change_all(database, partial(IdempotencyRecord.purge, timedelta(seconds=50)))

    assert kept(database) == ["key"]


def test_old_statistics_do_not_delay_a_purge(database: Database) -> None:
    """PostgreSQL takes the table for empty, as it was when it was analyzed."""
    alice = make_user(database)
    old = partial(IdempotencyRecord.purge, timedelta(seconds=50))
    for _ in range(2):
        store(database, *(record(alice.id, str(n), age=100) for n in range(1203)))
        change_all(database, old)
        database.transact(lambda session: session.execute(text("ANALYZE idempotency_records")))

    assert kept(database) == []


def test_one_transaction_deletes_a_bounded_number_of_records(database: Database) -> None:
    alice = make_user(database)
    store(database, *(record(alice.id, str(n), age=100) for n in range(5)), record(alice.id))
    old = partial(IdempotencyRecord.purge, timedelta(seconds=50))

    left = [(change_batch(database, old, limit=2), len(kept(database))) for _ in range(4)]

    assert left == [(True, 4), (True, 2), (False, 1), (False, 1)]


def test_two_processes_may_purge_concurrently(database: Database) -> None:
    alice = make_user(database)
    store(database, *(record(alice.id, str(n), age=100) for n in range(300)))
    old = partial(IdempotencyRecord.purge, timedelta(0))

    def purge() -> None:
        while kept(database):
            change_batch(database, old, limit=20)

    assert together(*[purge] * 4) == [None] * 4


def test_a_purge_with_nothing_to_do_does_not_wait_for_a_writer(database: Database) -> None:
    alice = make_user(database)
    store(database, record(alice.id))

    def write(session: Session) -> bool:
        session.execute(update(IdempotencyRecord).values(status=200))
        return change_batch(database, partial(IdempotencyRecord.purge, timedelta(seconds=50)))

    # SQLite has one writer at a time, so another one would wait in vain.
    assert database.transact(write, write=True) is False


def test_an_erased_account_leaves_no_record(database: Database) -> None:
    alice, bob = make_user(database), make_user(database)
    store(database, record(alice.id, "one"), record(alice.id, "two"), record(bob.id, "bob"))

    def erase(session: Session) -> None:
        user = User.visible_to(session, ROOT, alice.id)
        erase_account(session, LIFECYCLE, user, by=ROOT, origin=RequestOrigin())

    database.transact(erase, write=True)

    assert kept(database) == ["bob"]


def test_an_erasure_waits_for_a_request_with_a_key(database: Database) -> None:
    alice = make_user(database)
    token = make_token(database, alice)

    def erase() -> None:
        def work(session: Session) -> None:
            user = User.visible_to(session, ROOT, alice.id)
            erase_account(session, LIFECYCLE, user, by=ROOT, origin=RequestOrigin())

        database.transact(work, write=True)

    thread = threading.Thread(target=erase)

    def request(session: Session) -> bool:
        assert TOKEN_STATUSES.look_up(session.connection(), token.id, hold=True)() is not None
        thread.start()
        thread.join(0.3)
        session.add(record(alice.id))
        session.flush()
        return thread.is_alive()

    assert database.transact(request, write=True), "the erasure did not wait"
    thread.join(10)
    assert kept(database) == []
    assert (
        database.transact(
            lambda session: TOKEN_STATUSES.look_up(session.connection(), token.id, hold=True)(),
            write=True,
        )
        is None
    )


def test_a_lock_lasts_as_long_as_its_transaction(database: Database, kind: str) -> None:
    number = -(2**63) + 5

    def try_lock(number: int) -> bool:
        # A reading transaction does not wait for SQLite's turn to write.
        return database.transact(lambda session: database.try_lock(session, number)(), write=False)

    def hold(session: Session) -> list[bool | Exception]:
        assert database.try_lock(session, number)()
        assert database.try_lock(session, number)()
        return together(lambda: try_lock(number), lambda: try_lock(5))

    assert database.transact(hold, write=True) == [kind == "sqlite", True]
    assert try_lock(number)
