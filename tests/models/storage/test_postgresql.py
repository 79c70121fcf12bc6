import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import monotonic
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from models.access.token_status import TokenStatuses
from models.bounded_connection import BoundedConnection
from models.errors import DatabaseUnavailable
from models.identity.user import User
from models.orders.order import Order
from models.storage.database import Database
from models.storage.idempotency_record import IdempotencyRecord, KeptAnswer
from models.storage.migrating import migrate
from models.storage.reader import ConnectionReader, Reader
from models.storage.schema_version import SchemaError
from tests.databases import CLOSE_SESSIONS, make_database_url
from tests.factories import Person, make_product, make_token, make_user, quantities
from tests.models.reading import read_page
from tests.models.relay import Relay, relay_to

pytestmark = pytest.mark.postgresql

every_kind = pytest.mark.parametrize("brief", [False, True], ids=["writing", "brief"])
"""A brief transaction is pipelined."""
RAISE = "DO $$ BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = '{}'; END $$"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with make_database_url("postgresql", tmp_path) as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.dispose()


@pytest.fixture
def relay(url: str) -> Iterator[Relay]:
    parts = make_url(url)
    with relay_to(parts.host or "127.0.0.1", parts.port or 5432) as relay:
        yield relay


def through(relay: Relay, url: str) -> str:
    return (
        make_url(url).set(host="127.0.0.1", port=relay.port).render_as_string(hide_password=False)
    )


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_store_every_name_is_refused(url: str, encoding: str) -> None:
    name = f"concord_test_{encoding.lower()}_{uuid4().hex}"
    create = "CREATE DATABASE {} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING {}"
    named = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(create).format(named, sql.Literal(encoding)))
        try:
            database = Database(
                make_url(url).set(database=name).render_as_string(hide_password=False)
            )
            with pytest.raises(SchemaError, match=f"encoding {encoding}: create it with UTF8"):
                migrate(database)
            assert database.fault() is not None
            database.dispose()
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(named))


def test_a_database_is_reached_by_ipv6_and_by_socket(url: str) -> None:
    parts = make_url(url)
    folder = Path(mkdtemp(prefix="concord-"))  # The name of a socket must be short.
    local = socket.socket(socket.AF_UNIX)
    local.bind(str(folder / ".s.PGSQL.5432"))
    local.listen()
    six = socket.create_server(("::1", 0), family=socket.AF_INET6)
    who = f"postgresql://{parts.username}:{parts.password}@" if parts.username else "postgresql://"
    name = parts.database
    hosts = (
        f"[::1]:{six.getsockname()[1]}/{name}?sslmode=prefer",
        f"/{name}?host={folder}",
        f"{quote(str(folder), safe='')}/{name}",
    )
    relays = [Relay((parts.host or "127.0.0.1", parts.port or 5432), each) for each in (six, local)]
    for host in hosts:
        database = Database(who + host)
        assert database.is_ready(), host
        database.dispose()
    for relay in relays:
        relay.close()
    rmtree(folder)


def end_sessions(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CLOSE_SESSIONS)


def setting(database: Database, name: str, *, write: bool, brief: bool = False) -> object:
    return database.transact(lambda s: s.scalar(text(f"SHOW {name}")), write=write, brief=brief)


def test_every_transaction_is_configured(url: str) -> None:
    database = Database(
        f"{url}?options=-c%20work_mem%3D8MB", lock_timeout=1.5, statement_timeout=2.5
    )

    assert setting(database, "lock_timeout", write=True) == "1500ms"
    assert setting(database, "statement_timeout", write=True) == "2500ms"
    assert setting(database, "idle_in_transaction_session_timeout", write=True) == "30s"
    assert setting(database, "tcp_keepalives_idle", write=True) == "10"
    assert setting(database, "timezone", write=True) == "UTC"
    assert setting(database, "plan_cache_mode", write=True) == "force_custom_plan"
    assert setting(database, "plan_cache_mode", write=True, brief=True) == "auto"
    assert setting(database, "work_mem", write=True) == "8MB"
    assert setting(database, "transaction_isolation", write=True) == "read committed"
    assert setting(database, "transaction_read_only", write=True) == "off"
    assert setting(database, "transaction_read_only", write=False) == "on"
    database.dispose()


def test_kinds_of_transactions_share_a_connection(url: str) -> None:
    database = Database(url, pool_size=1)
    # Without a transaction, a statement starts at the time that `now` returns.
    query = text(
        "SELECT current_setting('transaction_isolation'), "
        "current_setting('transaction_read_only'), now() < statement_timestamp()"
    )

    def settings(reader: Reader | Session) -> list[object]:
        return list(reader.execute(query).one())  # type: ignore[arg-type] # Text has no types.

    for _ in range(2):
        assert database.read(settings) == ["repeatable read", "on", True]
        assert database.read(settings, single=True) == ["read committed", "off", False]
        assert database.transact(settings) == ["read committed", "off", True]
    assert database.transact(settings, brief=True) == ["read committed", "off", True]
    assert database.transact(settings) == ["read committed", "off", True]
    database.dispose()


@every_kind
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_conflict_is_retried(database: Database, state: str, *, brief: bool) -> None:
    attempts = []

    def work(session: Session) -> None:
        attempts.append(session)
        if len(attempts) == 1:
            session.execute(text(RAISE.format(state)))

    database.transact(work, brief=brief)

    assert len(attempts) == 2


@every_kind
@pytest.mark.parametrize(
    "state", ["08006", "25P03", "42501", "53100", "53300", "55P03", "57014", "58030"]
)
def test_a_failing_server_is_unavailable_at_once(
    database: Database, state: str, *, brief: bool
) -> None:
    attempts = []

    def work(session: Session) -> None:
        attempts.append(session)
        session.execute(text(RAISE.format(state)))

    with pytest.raises(DatabaseUnavailable):
        database.transact(work, brief=brief)
    assert len(attempts) == 1


@every_kind
@pytest.mark.parametrize("state", ["22P02", "23505", "42P01", "XX000"])
def test_every_other_error_is_a_bug(database: Database, state: str, *, brief: bool) -> None:
    with pytest.raises(DBAPIError):
        database.transact(lambda s: s.execute(text(RAISE.format(state))), brief=brief)


@every_kind
def test_a_standby_that_cannot_be_written_is_unavailable(
    database: Database, *, brief: bool
) -> None:
    def work(session: Session) -> None:
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text("DELETE FROM users"))

    with pytest.raises(DatabaseUnavailable):
        database.transact(work, brief=brief)


@every_kind
def test_deadlocked_transactions_both_succeed(database: Database, *, brief: bool) -> None:
    first, second = make_user(database).id, make_user(database).id
    both = threading.Barrier(2)
    lock = text("UPDATE users SET name = name || :mark WHERE id = :id")

    def cross(mark: str, *ids: int) -> None:
        meet = [True]

        def work(session: Session) -> None:
            session.execute(lock, {"mark": mark, "id": ids[0]})
            if meet:
                meet.pop()
                both.wait(10)
            session.execute(lock, {"mark": mark, "id": ids[1]})

        database.transact(work, brief=brief)

    other = threading.Thread(target=cross, args=("!", first, second))
    other.start()
    cross("?", second, first)
    other.join()

    assert all({"!", "?"} <= set(user.name) for user in read_page(database).items)


def test_a_slow_statement_is_stopped(url: str) -> None:
    database = Database(url, statement_timeout=0.3)

    start = monotonic()
    with pytest.raises(DatabaseUnavailable):
        database.transact(lambda s: s.execute(text("SELECT pg_sleep(9)")), write=False)
    assert monotonic() - start < 3
    database.dispose()


def test_connections_closed_by_the_server_are_replaced(database: Database, url: str) -> None:
    def count(reader: Reader) -> int | None:
        return reader.scalar(select(func.count()).select_from(User))

    make_user(database)
    assert database.read(count, single=True) == 1
    end_sessions(url)

    assert database.read(count, single=True) == 1
    assert len(read_page(database).items) == 1


@every_kind
def test_a_connection_lost_in_a_transaction_is_unavailable_once(
    database: Database, url: str, *, brief: bool
) -> None:
    def work(session: Session) -> None:
        session.execute(text("SELECT 1"))
        end_sessions(url)
        session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        database.transact(work, brief=brief)
    assert not read_page(database).items
    assert database.is_ready()


def test_one_of_many_dead_connections_is_waited_for(
    url: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.storage.postgresql._TRUSTED", 0)
    database = Database(through(relay, url), statement_timeout=2, connect_timeout=2)
    everybody = threading.Barrier(4)

    def meet(session: Session) -> None:
        session.execute(text("SELECT 1"))
        everybody.wait(10)

    with ThreadPoolExecutor(4) as pool:
        for met in [pool.submit(database.transact, meet, write=False) for _ in range(4)]:
            met.result()
        relay.forget()
        start = monotonic()
        assert database.transact(lambda s: s.scalar(text("SELECT 1")), write=False) == 1
        for met in [pool.submit(database.transact, meet, write=False) for _ in range(4)]:
            met.result()
    # One connection is given 3 seconds; with another it would be 6.
    assert monotonic() - start < 5.5
    database.dispose()


def test_a_server_that_refuses_connections_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        database = Database(f"postgresql://127.0.0.1:{unused.getsockname()[1]}/concord")

        start = monotonic()
        with pytest.raises(DatabaseUnavailable):
            read_page(database)
        assert not database.is_ready()
        assert monotonic() - start < 2


def test_a_silent_server_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/concord"
        database = Database(url, connect_timeout=2)

        start = monotonic()
        with pytest.raises(DatabaseUnavailable):
            read_page(database)
        assert not database.is_ready()
        assert monotonic() - start < 6


def test_a_server_that_falls_silent_recovers(url: str, relay: Relay) -> None:
    database = Database(through(relay, url), statement_timeout=0.5, connect_timeout=2)
    assert not read_page(database).items
    assert database.is_ready()

    relay.freeze()
    start = monotonic()
    with pytest.raises(DatabaseUnavailable):
        read_page(database)
    assert monotonic() - start < 6
    assert not database.is_ready()

    relay.thaw()
    assert not read_page(database).items
    assert database.is_ready()
    database.dispose()


@every_kind
def test_a_server_that_falls_silent_in_a_statement_is_unavailable(
    url: str, relay: Relay, *, brief: bool
) -> None:
    database = Database(through(relay, url), statement_timeout=0.5)

    def work(session: Session) -> None:
        session.execute(text("SELECT 1"))
        relay.freeze()
        session.execute(text("SELECT 1"))

    start = monotonic()
    with pytest.raises(DatabaseUnavailable):
        database.transact(work, brief=brief)
    assert monotonic() - start < 4
    relay.thaw()
    assert not read_page(database).items
    database.dispose()


def test_psycopg_still_waits_where_a_bounded_connection_expects_it(url: str) -> None:
    # `wait` is where every exchange goes through. If psycopg changes that, the limit is void.
    with BoundedConnection.connect(url) as connection:
        connection.patience = 0.2
        start = monotonic()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT pg_sleep(5)")
        assert monotonic() - start < 2
        assert connection.closed


def test_postgresql_is_never_read_on_the_event_loop(database: Database) -> None:
    assert not database.can_glance
    with pytest.raises(BlockingIOError):
        database.glance(lambda _: None)


def test_an_order_with_a_key_takes_three_round_trips(url: str, relay: Relay) -> None:
    database = Database(through(relay, url), pool_size=1)
    buyer, product = make_user(database), make_product(database)
    token, statuses = make_token(database, buyer), TokenStatuses(strict_administrators=False)
    lines = quantities([(product, 1)])

    def place(key: str, session: Session) -> None:
        status = statuses.look_up(ConnectionReader(session.connection()), token.id, hold=True)
        is_locked = database.try_lock(session, 5)
        find = IdempotencyRecord.find(session, buyer.id, key)
        assert status() is not None
        assert is_locked()
        assert find() is None
        Order.place(session, lines, {}, reservation=timedelta(hours=1), by=Person(buyer.id))
        IdempotencyRecord.store(session, buyer.id, key, KeptAnswer(b"", 201, [], b"", buyer.id))

    turns = []
    for number in range(9):
        database.transact(partial(place, f"{number}"), brief=True)
        turns.append(relay.turns)
    assert turns[-1] - turns[-2] == 2 * 3
    assert database.transact(lambda s: s.scalar(select(func.count()).select_from(Order))) == 9
    database.dispose()


def test_a_failed_write_that_nobody_waited_for_fails_its_transaction(database: Database) -> None:
    user = make_user(database)
    record = KeptAnswer(b"", 201, [], b"", user.id)

    def store(user_id: int, session: Session) -> None:
        IdempotencyRecord.store(session, user_id, "key", record)

    with pytest.raises(IntegrityError):
        database.transact(partial(store, user.id + 1), brief=True)
    # The same connection is used again.
    database.transact(partial(store, user.id), brief=True)
    assert database.transact(lambda s: s.scalar(select(IdempotencyRecord.user_id))) == user.id


def test_an_error_of_an_object_is_raised_by_its_flush(database: Database) -> None:
    user = make_user(database)

    def repeat(session: Session) -> None:
        savepoint = session.begin_nested()
        session.add(User.draft(name="Bob", email=user.email, password_hash=None))
        with pytest.raises(IntegrityError):
            session.flush()
        savepoint.rollback()
        session.add(User.draft(name="Bob", email="bob@example.com", password_hash=None))

    database.transact(repeat, brief=True)
    assert len(read_page(database).items) == 2


def test_a_silent_brief_transaction_is_seen_to_be_idle(database: Database, url: str) -> None:
    states = "SELECT state FROM pg_stat_activity WHERE datname = current_database()"

    def look(session: Session) -> object:
        assert database.try_lock(session, 5)()
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(f"{states} AND pid <> pg_backend_pid()").fetchall()

    # The server then ends it after `idle_in_transaction_session_timeout`.
    assert database.transact(look, brief=True) == [("idle in transaction",)]


def test_a_connection_lost_before_its_transaction_is_unavailable(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.transact(lambda s: s.execute(text("SELECT 1")), brief=True)
    monkeypatch.setattr("models.storage.postgresql._has_news", lambda _: False)
    end_sessions(url)
    with pytest.raises(DatabaseUnavailable):
        database.transact(lambda s: s.execute(text("SELECT 1")), brief=True)
    assert database.transact(lambda s: s.scalar(text("SELECT 1")), brief=True) == 1
