"""A shop whose PostgreSQL server is lost: the service finds the standby that takes its place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.server.settings import Settings
from tests.api.commands import make_run
from tests.faults.buyers import Buyers
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import Shop, open_shop
from tests.live import HOST, free_port
from tests.models.books import check_books
from tests.servers.postgresql_pair import Pair, running_pair

LONGEST = 15.0
"""Maximum seconds for a response: all limits on waiting together."""

pytestmark = pytest.mark.mission("M32")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with running_pair(tmp_path) as pair:
        yield pair


@pytest.fixture
def shop(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop whose service knows both database servers."""
    port = free_port()
    assert make_run(tmp_path, monkeypatch)("migrate", DATABASE_URL=pair.url).exit_code == 0
    with (
        killed_server(tmp_path, port, pair.url),
        open_shop(
            Settings(database_url=pair.url).database_url,
            tmp_path / "signing-key.pem",
            f"http://{HOST}:{port}",
        ) as shop,
    ):
        yield shop


@pytest.fixture
def buyers(shop: Shop) -> Buyers:
    # 409: the first request with this key has not ended.
    return Buyers(shop, shop.issuer, threads=4, people=4, refusals={409, 503})


def test_a_failover_loses_and_doubles_no_order(
    pair: Pair, shop: Shop, buyers: Buyers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with buyers.ordering():
        buyers.wait_for(201, 20)
        pair.stop(0)
        buyers.wait_for(503, 5)
        assert shop.client.get(f"{shop.issuer}/health").status_code == 200
        pair.promote()
        buyers.wait_for(201, 20)
    assert buyers.slowest < LONGEST
    assert buyers.lost_and_doubled() == (0, 0)
    check_books(shop.database)
    run = make_run(tmp_path, monkeypatch)
    assert "database  ok " in run("check", DATABASE_URL=pair.url).output


def test_an_old_primary_that_stays_up_confirms_no_order(
    pair: Pair, shop: Shop, buyers: Buyers
) -> None:
    # libpq chooses the old primary, which is listed first and reports that it accepts writes.
    with buyers.ordering():
        buyers.wait_for(201, 20)
        pair.promote()
        confirmed = buyers.statuses[201]
        buyers.wait_for(503, 8)
        # Orders that were waiting for their commit at the promotion may have been confirmed before.
        assert buyers.statuses[201] <= confirmed + buyers.threads
        # The old primary still serves reads, which is why it must be fenced.
        assert shop.client.get(f"{shop.issuer}/v1/products").status_code == 200
        pair.stop(0)
        buyers.wait_for(201, 20)
    assert buyers.slowest < LONGEST
    assert buyers.lost_and_doubled() == (0, 0)
    check_books(shop.database)
