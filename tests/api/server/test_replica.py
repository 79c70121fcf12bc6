"""A replica of the database serves reads of the catalogue without a token, a second old at most."""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import cached_property, partial
from pathlib import Path
from typing import Self
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import select
from typing_extensions import override

from models.replica import Heartbeat, ReplicatedDatabase
from models.storage.database import Database
from models.storage.migrating import migrate
from tests.api.accounts import bearer, token_for
from tests.api.commands import make_run
from tests.factories import make_account, make_product
from tests.live import HOST, free_port
from tests.servers.postgresql_pair import Pair, running_server
from tests.service import Service, running

pytestmark = pytest.mark.mission("M32")

STALENESS = 1.0
LONGEST = 6.0
"""Maximum seconds for a response while the replica hangs."""
SECONDS = 20.0
_names = (f"Kite {number}" for number in itertools.count(1))


@dataclass
class Shop:
    """A service with a database and its replica, and a product that an administrator changes."""

    pair: Pair
    service: Service
    path: str

    def __post_init__(self) -> None:
        self.client = self.service.client()

    @cached_property
    def admin(self) -> dict[str, str]:
        return bearer(token_for(self.service, make_account(self.service, role="admin")))

    def shown(self) -> tuple[str, str]:
        """The name of the product in its own response and in the list, without a token."""
        product = self.client.get(self.path).raise_for_status().json()
        page = self.client.get("/v1/products?limit=100").raise_for_status().json()
        [item] = [each for each in page["items"] if each["id"] == product["id"]]
        return product["name"], item["name"]

    def rename(self) -> str:
        """Change the name of the product, as an administrator who reads it before and after."""
        before = self.client.get(self.path, headers=self.admin)
        wanted = {**self.admin, "If-Match": before.headers["etag"]}
        name = next(_names)
        changed = self.client.patch(self.path, json={"name": name}, headers=wanted)
        assert changed.status_code == 200, changed.text
        after = self.client.get(self.path, headers=self.admin)
        assert (after.json()["name"], after.headers["etag"]) == (name, changed.headers["etag"])
        return name

    def require_bound(self) -> None:
        """Require that a change is seen a second later, in every read of the next second."""
        name = self.rename()
        changed = time.monotonic()
        while (began := time.monotonic()) < changed + 2 * STALENESS:
            shown = self.shown()
            assert shown == (name, name) or began < changed + STALENESS
            time.sleep(0.02)

    def asked(self) -> dict[str, float]:
        """How many reads each server was asked for."""
        lines = self.service.app.metrics.text().splitlines()
        counts = (line.split() for line in lines if line.startswith("concord_replica_reads_total"))
        return {name.split('"')[1]: float(value) for name, value in counts}

    def wait_for_replica(self) -> None:
        """Wait until the replica serves reads."""
        until = time.monotonic() + SECONDS
        before = self.asked()["replica"]
        while self.asked()["replica"] == before:
            assert time.monotonic() < until
            self.shown()
            time.sleep(0.05)

    @contextmanager
    def lag(self) -> Iterator[None]:
        """Let the replica repeat nothing further until the block ends."""
        with psycopg.connect(self.pair.url_of(1), autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
            try:
                yield
            finally:
                connection.execute("SELECT pg_wal_replay_resume()")

    @contextmanager
    def following(self, source: str) -> Iterator[None]:
        """Let the replica follow another server until the block ends."""
        with psycopg.connect(self.pair.url_of(1), autocommit=True) as connection:
            row = connection.execute("SHOW primary_conninfo").fetchone()
            assert row is not None
            follow(connection, source)
            try:
                yield
            finally:
                follow(connection, row[0])


def follow(replica: psycopg.Connection, source: str) -> None:
    literal = sql.Literal(source)
    replica.execute(sql.SQL("ALTER SYSTEM SET primary_conninfo = {}").format(literal))
    replica.execute("SELECT pg_reload_conf()")


@contextmanager
def open_shop(folder: Path, *, is_cascaded: bool = False) -> Iterator[Shop]:
    with running_server(folder) as pair, ExitStack() as stack:
        database = Database(pair.url_of(0))
        migrate(database)
        path = f"/v1/products/{make_product(database).id}"
        database.dispose()
        pair.follow("async")
        replica = (stack.enter_context(pair.followed()) if is_cascaded else pair).url_of(1)
        settings = {"DATABASE_READ_URL": replica}
        service = stack.enter_context(running(folder, pair.url_of(0), **settings))
        yield Shop(pair, service, path)


@pytest.fixture(scope="module")
def running_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def shop(running_shop: Shop) -> Shop:
    shop = Shop(running_shop.pair, running_shop.service, running_shop.path)
    shop.wait_for_replica()
    return shop


def statements(pair: Pair, number: int) -> int:
    """The number of connections that last read products on a server."""
    with psycopg.connect(pair.url_of(number)) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT%FROM products%'"
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def test_the_replica_serves_reads_without_a_token(shop: Shop) -> None:
    before = shop.asked()
    for _ in range(5):
        shop.shown()
    assert shop.asked()["replica"] > before["replica"]
    assert statements(shop.pair, 1) > 0


def test_a_token_reads_the_primary(shop: Shop) -> None:
    before = shop.asked()
    for path in (shop.path, "/v1/products", "/v1/products?active=false"):
        assert shop.client.get(path, headers=shop.admin).status_code == 200
    assert shop.asked() == before


def test_a_change_is_seen_after_a_second_however_far_the_replica_lags(shop: Shop) -> None:
    with shop.lag():
        shop.require_bound()
        # Whoever changes something reads it at once.
        for _ in range(3):
            shop.rename()


def test_a_lost_primary_ends_the_reads_of_the_replica(shop: Shop) -> None:
    """A replica that has lost its primary reports no lag."""
    with shop.following(f"host={HOST} port={free_port()}"):
        shop.require_bound()


def test_a_replica_that_restarts_in_an_older_state_is_not_believed(shop: Shop) -> None:
    name = shop.rename()
    while shop.shown() != (name, name):
        time.sleep(0.02)
    shop.pair.stop(1)
    # It repeats what was flushed to its tables, and nothing that was committed later.
    shop.pair.start(1, recovery_min_apply_delay="1h")
    try:
        until = time.monotonic() + 2 * STALENESS
        while time.monotonic() < until:
            assert shop.shown() == (name, name)
            time.sleep(0.02)
    finally:
        shop.pair.stop(1)
        shop.pair.start(1)


def test_a_killed_replica_fails_no_request(shop: Shop) -> None:
    failed: list[int] = []
    stopping = threading.Event()

    def read(client: httpx.Client) -> None:
        while not stopping.is_set():
            status = client.get(shop.path).status_code
            if status != 200:
                failed.append(status)
            time.sleep(0.05)

    clients = [shop.service.client() for _ in range(4)]
    threads = [threading.Thread(target=read, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            shop.wait_for_replica()
            shop.pair.stop(1)
            time.sleep(0.3)
            shop.require_bound()
            shop.pair.start(1)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert failed == []


def test_a_hanging_replica_delays_a_client_once(shop: Shop) -> None:
    took = []
    with shop.pair.hanging(1):
        for _ in range(20):
            began = time.monotonic()
            shop.shown()
            took.append(time.monotonic() - began)
        shop.require_bound()
        assert shop.client.get("/health/ready").status_code == 200
    assert sorted(took)[-2] < 2
    assert max(took) < LONGEST


def test_a_hanging_replica_leaves_threads_to_other_reads(shop: Shop) -> None:
    clients = [shop.service.client() for _ in range(60)]

    def read(number: int) -> int:
        time.sleep(number / 20)
        headers = shop.admin if number % 5 == 0 else {}
        return clients[number].get(shop.path, headers=headers).status_code

    assert shop.admin  # Signing in takes as long as some reads.
    with shop.pair.hanging(1), ThreadPoolExecutor(len(clients)) as threads:
        assert set(threads.map(read, range(len(clients)))) == {200}


def test_a_clock_that_is_ahead_deletes_no_heartbeats(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        @override
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=2)

    database, process = shop.service.app.database, uuid4()
    database.transact(partial(Heartbeat.write, process=process, beat=1.0))
    monkeypatch.setattr("models.storage.base.datetime", Ahead)
    database.transact(partial(Heartbeat.write, process=uuid4(), beat=1.0))
    query = select(Heartbeat.beat).where(Heartbeat.process == process)
    assert database.read(lambda reader: reader.scalar(query)) == 1.0


def test_a_process_that_asks_no_replica_reports_no_age(shop: Shop) -> None:
    """Processes of `work` do not."""
    database = ReplicatedDatabase(shop.pair.url_of(0), shop.pair.url_of(1))
    time.sleep(0.01)
    assert database.age() == 0
    database.beat()
    assert database.age() > 0
    database.dispose()


def test_check_tells_why_a_replica_cannot_be_used(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, primary, replica = make_run(tmp_path, monkeypatch), *map(shop.pair.url_of, (0, 1))
    for url, said in {
        replica: "ok      0.",
        primary: "failed  the server is not a standby",
        f"{replica.removesuffix('postgres')}template1": "failed  its schema has version None, but",
        f"postgresql://u:hunter2@{HOST}:{free_port()}/none": "failed  connection failed: ",
    }.items():
        output = run("check", DATABASE_URL=primary, DATABASE_READ_URL=url).output
        assert f"replica   {said}" in output
        assert "hunter2" not in output


@pytest.mark.parametrize("is_cascaded", [False, True], ids=["promoted", "follows a promoted one"])
def test_a_promotion_ends_the_reads_of_a_replica(tmp_path: Path, *, is_cascaded: bool) -> None:
    with open_shop(tmp_path, is_cascaded=is_cascaded) as shop:
        shop.wait_for_replica()
        shop.pair.promote()
        with psycopg.connect(shop.pair.url_of(1), autocommit=True) as connection:
            connection.execute("UPDATE products SET name = 'Elsewhere'")
        shop.require_bound()
