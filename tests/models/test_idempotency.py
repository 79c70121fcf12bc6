import threading
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.account import erase_account
from models.audit_event import Origin
from models.base import utcnow
from models.database import Database
from models.idempotency import IdempotencyRecord, KeptAnswer, purge_answers
from models.token import Token
from models.user import User
from tests.models.people import ROOT, make_token, make_user
from tests.models.together import together

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


def test_what_is_stored_is_found_by_user_and_key(database: Database) -> None:
    alice, bob = make_user(database), make_user(database)
    store(database, record(alice.id))

    def find(user_id: int, key: str) -> KeptAnswer | None:
        return database.transact(
            lambda session: IdempotencyRecord.find(session, user_id, key), write=False
        )

    found = find(alice.id, "key")
    assert found is not None
    assert (found.status, found.headers) == (201, HEADERS)
    assert (found.fingerprint, found.body) == (b"\0\xff" * 16, b'{"name":"Zo\xc3\xab"}')
    assert find(alice.id, "Key") is find(alice.id, "key ") is find(bob.id, "key") is None


def test_a_key_is_one_for_each_user(database: Database) -> None:
    alice, bob = make_user(database), make_user(database)
    store(database, record(alice.id), record(bob.id))

    with pytest.raises(IntegrityError):
        store(database, record(alice.id))
    with pytest.raises(IntegrityError):
        store(database, record(987_654))


def test_what_is_older_than_it_is_kept_goes_oldest_first(database: Database) -> None:
    alice = make_user(database)
    ages = {"a": 100, "b": 400, "c": 200, "d": 300, "e": 10}
    store(database, *(record(alice.id, key, age=age) for key, age in ages.items()))
    before = utcnow() - timedelta(seconds=50)

    def purge(limit: int) -> int:
        return database.transact(
            lambda session: IdempotencyRecord.purge(session, before, limit), write=True
        )

    assert purge(2) == 2
    assert kept(database) == ["a", "c", "e"]
    assert (purge(2), purge(2)) == (2, 0)
    assert kept(database) == ["e"]


def test_everything_that_is_too_old_goes_however_much_it_is(database: Database) -> None:
    alice = make_user(database)
    store(database, *(record(alice.id, str(n), age=100) for n in range(1203)), record(alice.id))

    purge_answers(database, timedelta(seconds=50))

    assert kept(database) == ["key"]


def test_two_processes_may_purge_at_once(database: Database) -> None:
    alice = make_user(database)
    store(database, *(record(alice.id, str(n), age=100) for n in range(300)))

    def purge() -> None:
        for _ in range(10):
            database.transact(
                lambda session: IdempotencyRecord.purge(session, utcnow(), 20), write=True
            )

    assert together(*[purge] * 4) == [None] * 4
    assert kept(database) == []


def test_an_erased_account_leaves_no_answer(database: Database) -> None:
    alice, bob = make_user(database), make_user(database)
    store(database, record(alice.id, "one"), record(alice.id, "two"), record(bob.id, "bob"))

    def erase(session: Session) -> None:
        user = User.visible_to(session, ROOT, alice.id)
        erase_account(session, user, by=ROOT, origin=Origin())

    database.transact(erase, write=True)

    assert kept(database) == ["bob"]


def test_an_erasure_waits_for_a_request_whose_answer_is_kept(database: Database) -> None:
    alice = make_user(database)
    token = make_token(database, alice)

    def erase() -> None:
        def work(session: Session) -> None:
            user = User.visible_to(session, ROOT, alice.id)
            erase_account(session, user, by=ROOT, origin=Origin())

        database.transact(work, write=True)

    thread = threading.Thread(target=erase)

    def request(session: Session) -> bool:
        assert Token.standing(session.connection(), token.id, hold=True) is not None
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
            lambda session: Token.standing(session.connection(), token.id, hold=True), write=True
        )
        is None
    )


def test_a_lock_lasts_as_long_as_its_transaction(database: Database, kind: str) -> None:
    number = -(2**63) + 5

    def try_lock(number: int) -> bool:
        # A reading transaction does not wait for SQLite's turn to write.
        return database.transact(lambda session: database.try_lock(session, number), write=False)

    def hold(session: Session) -> list[bool | Exception]:
        assert database.try_lock(session, number)
        assert database.try_lock(session, number)
        return together(lambda: try_lock(number), lambda: try_lock(5))

    assert database.transact(hold, write=True) == [kind == "sqlite", True]
    assert try_lock(number)
