import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, cast

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import QueuePool

from models.errors import DatabaseUnavailable, EmailTaken
from models.identity.user import User
from models.identity.user_list import find_users
from models.storage.database import Database
from models.storage.reader import ConnectionReader, Reader
from tests.factories import ROOT, make_user
from tests.models.actions import change_user
from tests.models.reading import read_page, read_user
from tests.models.together import together

Work = Callable[[Session], object]


def rename(user_id: int, name: str) -> Work:
    def work(session: Session) -> None:
        User.visible_to(session, ROOT, user_id).change(session, name=name)

    return work


def test_the_result_is_returned_after_the_commit(database: Database) -> None:
    alice = make_user(database)

    def work(session: Session) -> str:
        rename(alice.id, "Bob")(session)
        return "done"

    assert database.transact(work, write=True) == "done"
    assert read_user(database, alice.id).name == "Bob"


@pytest.mark.parametrize("write", [True, False])
def test_any_error_rolls_back(database: Database, *, write: bool) -> None:
    alice = make_user(database, name="Alice")

    def work(session: Session) -> None:
        rename(alice.id, "Bob")(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.transact(work, write=write)
    assert read_user(database, alice.id).name == "Alice"


def test_objects_can_be_read_after_the_transaction(database: Database) -> None:
    assert change_user(database, make_user(database).id, name="Bob").name == "Bob"


def test_a_transaction_takes_no_lock_before_its_first_statement(
    database: Database, database_url: str
) -> None:
    impatient = Database(database_url, lock_timeout=0.1, pool_size=1, pool_timeout=0.1)
    alice = make_user(database)

    def slow(session: Session) -> None:
        # This is where a handler would spend its time on hashing a password.
        impatient.transact(rename(alice.id, "Bob"), write=True)
        rename(alice.id, "Carol")(session)

    impatient.transact(slow, write=True)

    assert read_user(database, alice.id).name == "Carol"
    impatient.dispose()


def test_all_statements_of_a_reader_see_one_state(database: Database) -> None:
    count = select(func.count()).select_from(User)

    def work(reader: Reader) -> list[int | None]:
        before = [reader.scalar(count), reader.execute(count).scalar_one()]
        make_user(database)
        objects = len(find_users(reader, limit=10).items)
        return [*before, reader.scalar(count), reader.execute(count).scalar_one(), objects]

    assert database.read(work) == [0] * 5


def test_a_single_statement_reader_refuses_a_second(database: Database) -> None:
    def work(reader: Reader) -> None:
        assert reader.scalar(select(func.count()).select_from(User)) == 0
        with pytest.raises(RuntimeError, match="one statement"):
            reader.execute(select(User.id))

    database.read(work, single=True)


def test_a_transaction_announced_as_reading_may_write(database: Database) -> None:
    alice = make_user(database)

    database.transact(rename(alice.id, "Bob"), write=False)

    assert read_user(database, alice.id).name == "Bob"


def test_a_late_writer_on_an_outdated_snapshot_restarts(database: Database) -> None:
    alice = make_user(database, name="A")
    seen: list[str] = []

    def work(session: Session) -> None:
        user = User.visible_to(session, ROOT, alice.id)
        seen.append(user.name)
        if len(seen) == 1:
            database.transact(rename(alice.id, "AB"), write=True)
        user.change(session, name=user.name + "C")

    database.transact(work, write=False)

    assert seen == ["A", "AB"]
    assert read_user(database, alice.id).name == "ABC"


def test_concurrent_late_writers_all_succeed(database: Database) -> None:
    alice = make_user(database, name="A")

    def lengthen(session: Session) -> None:
        user = User.visible_to(session, ROOT, alice.id)
        user.change(session, name=user.name + "a")

    results = together(*[lambda: database.transact(lengthen, write=False)] * 6)

    assert results == [None] * 6
    assert read_user(database, alice.id).name == "Aaaaaaa"


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    alice = make_user(database, name="Alice")
    written, read = threading.Event(), threading.Event()

    def write(session: Session) -> None:
        rename(alice.id, "Bob")(session)
        written.set()
        assert read.wait(5)

    def look() -> str:
        assert written.wait(5)
        try:
            return read_user(database, alice.id).name
        finally:
            read.set()

    assert together(lambda: database.transact(write, write=True), look) == [None, "Alice"]


def test_a_changed_row_restarts_the_transaction(database: Database) -> None:
    attempts: list[Session] = []

    def work(session: Session) -> int:
        attempts.append(session)
        if len(attempts) < 3:
            raise StaleDataError
        return len(attempts)

    assert database.transact(work, write=True) == 3
    assert len(set(attempts)) == 3


def test_brief_works_at_once_succeed_and_fail_each_for_itself(database: Database) -> None:
    conflicts = set(range(2, 60, 4))

    def register(number: int) -> None:
        def work(session: Session) -> None:
            email = f"{number}@example.com" if number % 4 != 3 else "taken@example.com"
            User.register(session, name="Alice", email=email, password_hash=None)
            if number in conflicts:
                conflicts.remove(number)
                raise StaleDataError
            if number % 4 == 1:
                raise ZeroDivisionError

        database.transact(work, brief=True)
        # What was reported as done is visible to every other transaction.
        assert database.transact(partial(User.by_email, email=f"{number}@example.com"), write=False)

    make_user(database, email="taken@example.com")
    results = together(*(partial(register, number) for number in range(60)))

    expected = [type(None), ZeroDivisionError, type(None), EmailTaken] * 15
    assert [type(each) for each in results] == expected
    emails = {user.email for user in read_page(database, limit=100).items}
    kept = {f"{number}@example.com" for number in range(0, 60, 2)}
    assert emails == {"taken@example.com", *kept}


def test_a_transaction_that_always_conflicts_is_given_up(database_url: str) -> None:
    database = Database(database_url, lock_timeout=0.3)
    attempts = []

    def work(session: Session) -> None:
        attempts.append(session)
        raise StaleDataError

    start = monotonic()
    with pytest.raises(DatabaseUnavailable):
        database.transact(work, write=True)
    assert len(attempts) > 1
    assert monotonic() - start < 2


def test_a_bug_is_raised_at_once(database: Database) -> None:
    attempts = []

    def work(session: Session) -> None:
        attempts.append(session)
        session.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(DBAPIError):
        database.transact(work, write=True)
    assert len(attempts) == 1


def test_errors_do_not_repeat_statement_values(database: Database) -> None:
    query = text("SELECT * FROM no_such_table WHERE email = :email")

    with pytest.raises(DBAPIError) as error:
        database.transact(lambda s: s.execute(query, {"email": "alice@secret"}), write=False)
    assert "alice@secret" not in str(error.value)


def test_waiting_for_a_lock_times_out(database: Database, database_url: str) -> None:
    impatient = Database(database_url, lock_timeout=0.3)
    alice = make_user(database)
    locked, tried = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        rename(alice.id, "Bob")(session)
        locked.set()
        assert tried.wait(10)

    def wait() -> float:
        assert locked.wait(10)
        start = monotonic()
        try:
            with pytest.raises(DatabaseUnavailable):
                impatient.transact(rename(alice.id, "Carol"), write=True)
            return monotonic() - start
        finally:
            tried.set()

    nothing, seconds = together(lambda: database.transact(hold, write=True), wait)

    assert nothing is None
    assert isinstance(seconds, float)
    assert 0.2 < seconds < 3
    impatient.dispose()


def test_waiting_for_a_connection_times_out(database_url: str) -> None:
    database = Database(database_url, pool_size=1, pool_timeout=0.2)

    def work(session: Session) -> None:
        session.execute(text("SELECT 1"))
        start = monotonic()
        with pytest.raises(DatabaseUnavailable):
            database.transact(lambda inner: inner.execute(text("SELECT 1")), write=False)
        assert monotonic() - start < 2

    database.transact(work, write=False)
    database.dispose()


def test_a_connection_in_use_is_closed_after_its_database(database: Database) -> None:
    used: list[Any] = []

    def work(session: Session) -> None:
        used.append(session.connection().connection.dbapi_connection)
        database.dispose()
        assert session.scalar(select(1)) == 1

    database.transact(work, write=False)

    with pytest.raises(Exception, match="closed"):
        used[0].cursor().execute("SELECT 1")


def test_a_connection_opened_after_the_end_of_its_database_is_closed(database: Database) -> None:
    used: list[Any] = []

    def work(session: Session) -> None:
        used.append(session.connection().connection.dbapi_connection)

    database.dispose()
    database.transact(work, write=False)

    with pytest.raises(Exception, match="closed"):
        used[0].cursor().execute("SELECT 1")


def test_the_number_of_connections_is_bounded(database_url: str) -> None:
    database = Database(database_url, pool_size=3)
    running, most = 0, 0
    counter = threading.Lock()

    def work(session: Session) -> None:
        nonlocal running, most
        session.execute(text("SELECT 1"))
        with counter:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with counter:
            running -= 1

    results = together(*[lambda: database.transact(work, write=False)] * 9)

    assert results == [None] * 9
    assert most == 3
    database.dispose()


def test_a_connection_kept_for_single_statements_is_lent(database_url: str) -> None:
    database = Database(database_url, pool_size=2, pool_timeout=5.0)
    pool = next(iter(database.pools.values()))
    used: list[Any] = []

    def look_up(reader: Reader) -> object:
        used.append(cast("ConnectionReader", reader)._connection.connection.dbapi_connection)  # noqa: SLF001 - nothing public returns it.
        return reader.scalar(select(1))

    def read() -> object:
        return database.read(look_up, single=True)

    def work(inner: Callable[[], object]) -> object:
        def run(session: Session) -> object:
            session.execute(select(1))
            return inner()

        return database.transact(run, write=False)

    assert read() == read() == 1
    assert used[0] is used[1]
    assert (pool.opened(), pool.checkedout()) == (1, 0)
    # Both transactions need a connection at the same time.
    assert work(lambda: work(pool.checkedout)) == 2
    both: list[Callable[[], object]] = [read, partial(work, lambda: 1)]
    assert set(together(*both * 20)) == {1}
    assert pool.checkedout() == 0
    read()
    database.dispose()
    assert pool.opened() == 0
    with pytest.raises(Exception, match="closed"):
        used[-1].cursor().execute("SELECT 1")


def test_a_thread_does_not_wait_while_a_connection_is_kept(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread takes the last idle connection just after this thread has seen it."""
    database = Database(database_url, pool_size=2, pool_timeout=3.0)
    get = QueuePool._do_get  # noqa: SLF001 - another thread must run just before it.
    taken, waited = threading.Event(), threading.Event()

    def take() -> None:
        def hold(session: Session) -> None:
            session.execute(select(1))
            taken.set()
            waited.wait(5)

        database.transact(hold, write=False)

    other = threading.Thread(target=take)

    def get_late(pool: QueuePool) -> object:
        if threading.current_thread() is not other and not taken.is_set():
            other.start()
            assert taken.wait(5)
        return get(pool)

    def work(session: Session) -> int | None:
        return session.scalar(select(1))

    # One connection is idle, and one is kept.
    database.read(lambda _: database.transact(work, write=False), single=True)
    monkeypatch.setattr(QueuePool, "_do_get", get_late)
    assert database.transact(work, write=False) == 1
    assert taken.is_set()
    waited.set()
    other.join()
    database.dispose()


@pytest.mark.parametrize(
    "url",
    ["", "concord.db", "mysql://root:hunter22@127.0.0.1/x", "sqlite://", "sqlite:///:memory:"],
)
def test_an_unusable_database_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite://") as error:
        Database(url)
    assert "hunter22" not in str(error.value)
