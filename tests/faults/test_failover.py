"""A shop whose PostgreSQL server is lost: the service finds the standby that takes its place."""

from pathlib import Path

import pytest

from api.server.settings import Settings
from tests.api.commands import make_run
from tests.faults.buyers import Buyers
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import open_shop
from tests.live import HOST, free_port
from tests.models.books import check_books
from tests.postgresql_pair import running_pair

LONGEST = 15.0
"""Most seconds for a response, which are the limits of waiting together."""

pytestmark = pytest.mark.mission("M32")


def test_a_failover_loses_and_doubles_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    url = f"http://{HOST}:{port}"
    with running_pair(tmp_path) as pair:
        database_url = Settings(database_url=pair.url).database_url
        run = make_run(tmp_path, monkeypatch)
        assert run("migrate", DATABASE_URL=pair.url).exit_code == 0
        with (
            killed_server(tmp_path, port, pair.url),
            open_shop(database_url, tmp_path / "signing-key.pem", url) as shop,
        ):
            # 409: the first request with this key has not ended.
            buyers = Buyers(shop, url, threads=4, people=4, refusals={409, 503})
            with buyers.ordering():
                buyers.wait_for(201, 20)
                pair.stop(0)
                buyers.wait_for(503, 5)
                assert shop.client.get(f"{url}/health").status_code == 200
                pair.promote()
                buyers.wait_for(201, 20)
            assert buyers.slowest < LONGEST
            assert buyers.lost_and_doubled() == (0, 0)
            check_books(shop.database)
            assert "database  ok " in run("check", DATABASE_URL=pair.url).output
