"""The service behind PgBouncer in transaction mode, which gives each transaction a connection."""

import itertools
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from models.errors import DatabaseUnavailable
from models.storage.database import Database
from models.storage.migrating import migrate
from tests.api.commands import failure, make_run
from tests.factories import make_product
from tests.faults.buyers import NO_RESPONSE, Buyers
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import at_once, open_shop, order_of
from tests.faults.test_webhooks_killed import make_endpoint
from tests.live import HOST, free_port, running_server
from tests.models.books import check_books
from tests.models.feeds import check_replay, read_feed
from tests.models.relay import relay_to
from tests.servers.pgbouncer import Pooler, running_pooler, set_up_role
from tests.servers.postgresql_pair import Pair
from tests.servers.postgresql_pair import running_server as running_postgresql
from tests.servers.webhook_receiver import receiving, wait_for
from tests.test_docs import README, as_pattern, follow_tour, tour
from tests.tools import find_tool

pytestmark = pytest.mark.mission("M32")

CLIENTS = 12
"""More than PgBouncer has connections to the server."""
ROLE = {
    "TimeZone": "UTC",
    "lock_timeout": "5s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A server with a migrated database, the documented role, and one without its settings."""
    folder = tmp_path_factory.mktemp("server")
    with running_postgresql(folder, timezone="Europe/Berlin") as server:
        database = Database(server.url_of(0))
        migrate(database)
        database.dispose()
        set_up_role(server)
        execute(server, "CREATE ROLE bare LOGIN SUPERUSER")
        yield server


@pytest.fixture(scope="module")
def pooler(server: Pair) -> Iterator[Pooler]:
    with running_pooler(server.ports[0]) as pooler:
        yield pooler


@dataclass
class Urls:
    """A fresh database, without PgBouncer and through it."""

    direct: str
    pooled: str
    bare: str
    """The same through PgBouncer, for the role without settings."""

    @property
    def settings(self) -> dict[str, str]:
        return {"DATABASE_URL": self.direct, "DATABASE_POOLER_URL": self.pooled}


@pytest.fixture
def urls(server: Pair, pooler: Pooler) -> Urls:
    name = f"shop{next(_numbers)}"
    execute(server, f"CREATE DATABASE {name} TEMPLATE postgres")
    execute(server, "ALTER ROLE bare RESET ALL")
    direct = server.url_of(0).removesuffix("postgres") + name
    return Urls(direct, pooler.url_of(name), pooler.url_of(name, "bare"))


def execute(server: Pair, *statements: str) -> None:
    with psycopg.connect(server.url_of(0), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_the_tour_works_through_pgbouncer(urls: Urls, tmp_path: Path) -> None:
    find_tool("curl")
    steps = tour(README)
    with running_server(tmp_path, METRICS_PORT="0", **urls.settings) as live:
        printed = follow_tour(steps, live.url, tmp_path, {"DATABASE_URL": urls.direct})
    for step, output in zip(steps, printed, strict=True):
        assert as_pattern(step.printed or "").fullmatch(output), output


def test_more_clients_than_connections_lose_and_double_nothing(
    server: Pair, pooler: Pooler, urls: Urls, tmp_path: Path
) -> None:
    port = free_port()
    settings = {"DATABASE_POOLER_URL": urls.pooled}
    with (
        receiving() as receiver,
        killed_server(tmp_path, port, urls.direct, **settings),
        open_shop(urls.direct, tmp_path / "signing-key.pem", f"http://{HOST}:{port}") as shop,
    ):
        make_endpoint(shop.database, tmp_path / "signing-key.pem", receiver)
        refusals = {NO_RESPONSE, 409, 503}
        buyers = Buyers(shop, shop.issuer, CLIENTS, CLIENTS, refusals)
        with buyers.ordering():
            buyers.wait_for(201, 60)
            for how in (signal.SIGKILL, signal.SIGTERM):
                pooler.stop(how)
                buyers.wait_for(503, 3)
                pooler.start()
                buyers.wait_for(201, 20)
            server.stop(0)
            server.start(0)
            buyers.wait_for(201, 20)
        assert buyers.lost_and_doubled() == (0, 0)
        check_books(shop.database)
        # The same request, at once and again, has one effect.
        person, key = shop.person()[1], "the-same"
        order = partial(
            shop.post, f"{shop.issuer}/v1/orders", person, order_of(buyers.product), key=key
        )
        made = at_once([order] * CLIENTS)
        assert {each.status_code for each in made} <= {201, 409}
        listed = shop.client.get(f"{shop.issuer}/v1/orders", headers=person).json()["items"]
        assert [each["id"] for each in listed] == [order().json()["id"]]
        products = [make_product(shop.database).id for _ in range(CLIENTS)]
        wait_for(lambda: len(receiver.received) > len(products))
        check_replay(shop.database, read_feed(shop.database))


def test_a_role_without_settings_is_refused_with_the_statements(
    server: Pair, pooler: Pooler, urls: Urls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, monkeypatch)
    settings = urls.settings | {"DATABASE_POOLER_URL": urls.bare}
    statements = [f"ALTER ROLE bare SET {name} = '{value}';" for name, value in ROLE.items()]
    commands = f"{' '.join(statements)} then RECONNECT in PgBouncer's console"
    line = f"the role lacks settings: run {commands}"
    assert failure(run("serve", **settings)) == [line]
    assert f"pooler    failed  {line}\n" in run("check", **settings).output
    database = Database(urls.bare, is_pooled=True)
    with pytest.raises(DatabaseUnavailable) as refused:
        database.transact(lambda session: session.scalar(text("SELECT 1")))
    assert refused.value.reason == line
    execute(server, *statements)
    pooler.reconnect()
    assert database.is_ready()
    assert "pooler    ok " in run("check", **settings).output
    database.dispose()


def test_check_tells_that_pgbouncer_leads_elsewhere(
    server: Pair, pooler: Pooler, urls: Urls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, `migrate` and backups would use another database than the service."""
    run = make_run(tmp_path, monkeypatch)
    execute(server, f"CREATE DATABASE elsewhere TEMPLATE {urls.direct.rpartition('/')[2]}")
    settings = urls.settings | {"DATABASE_POOLER_URL": pooler.url_of("elsewhere")}
    line = "pooler    failed  it leads to another server or database than DATABASE_URL\n"
    assert line in run("check", **settings).output
    assert "pooler    ok " in run("check", **urls.settings).output


@pytest.mark.parametrize(
    ("value", "is_accepted"), [("0", False), ("5001ms", False), ("1h", False), ("1500ms", True)]
)
def test_a_limit_of_the_role_may_be_shorter(
    server: Pair, pooler: Pooler, urls: Urls, *, value: str, is_accepted: bool
) -> None:
    needed = ROLE | {"lock_timeout": value}
    execute(server, *(f"ALTER ROLE bare SET {name} = '{needed[name]}'" for name in needed))
    pooler.reconnect()
    database = Database(urls.bare, is_pooled=True)
    fault = database.fault()
    database.dispose()
    if is_accepted:
        assert fault is None
    else:
        assert "run ALTER ROLE bare SET lock_timeout = '5s'; then" in (fault or "")


def test_the_server_ends_a_slow_statement(server: Pair, pooler: Pooler, urls: Urls) -> None:
    needed = ROLE | {"statement_timeout": "1s"}
    execute(server, *(f"ALTER ROLE bare SET {name} = '{needed[name]}'" for name in needed))
    pooler.reconnect()
    database, begun = Database(urls.bare, is_pooled=True), time.monotonic()
    with pytest.raises(DatabaseUnavailable) as refused:
        database.transact(lambda session: session.execute(text("SELECT pg_sleep(20)")))
    assert time.monotonic() - begun < 4
    assert "statement timeout" in refused.value.reason
    assert database.is_ready()
    database.dispose()


def test_readiness_survives_a_network_that_was_cut_behind_pgbouncer(
    server: Pair, urls: Urls
) -> None:
    with relay_to(HOST, server.ports[0]) as relay, running_pooler(relay.port) as pooler:
        database = Database(pooler.url_of(urls.direct.rpartition("/")[2]), is_pooled=True)
        assert database.is_ready()
        relay.freeze()
        begun = time.monotonic()
        for _ in range(2):
            assert not database.is_ready()
        assert time.monotonic() - begun < 2 * 5
        relay.thaw()
        assert wait_for(database.is_ready, 5)
        database.dispose()


def test_a_database_url_that_leads_to_pgbouncer_is_refused(
    server: Pair, urls: Urls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a PgBouncer ignores the time limits, and a migration would leave its lock there.

    The same applies to the replica.
    """
    run = make_run(tmp_path, monkeypatch)
    line = "the connection options had no effect: connect to PostgreSQL, not to PgBouncer"
    with running_pooler(server.ports[0], "ignore_startup_parameters = options") as pooler:
        url = pooler.url_of(urls.direct.rpartition("/")[2])
        assert failure(run("migrate", DATABASE_URL=url)) == [line]
        assert f"database  failed  {line}\n" in run("check", DATABASE_URL=url).output
        output = run("check", DATABASE_URL=urls.direct, DATABASE_READ_URL=url).output
        assert f"replica   failed  {line}\n" in output
