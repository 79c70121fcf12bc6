"""The restore drill: a shop is backed up while it serves, lost, and restored in a new place."""

import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from uuid import UUID

import pytest

from tests.databases import KINDS, make_database_url
from tests.faults.killed_server import killed_server
from tests.faults.live_shop import Shop, open_shop, order_of
from tests.live import APP, HOST, free_port
from tests.models.books import check_books
from tests.models.feeds import check_replay, read_feed
from tests.pictures import make_picture
from tests.test_docs import OPERATING
from tests.tools import find_tool

TOOLS = {"postgresql": ("pg_dump", "pg_restore"), "sqlite": ("sqlite3",)}
FIRST_ORDERS, MOST_ORDERS = 5, 250
"""Orders before the backup begins, and altogether, which is less than the rate limit."""

pytestmark = pytest.mark.mission("M32")


def documented(kind: str) -> tuple[str, str]:
    """Return the commands of the page that back up a kind of database, and those that restore."""
    [section] = re.findall(r"(?ms)^## Backups$(.*?)^## ", OPERATING.read_text("utf-8"))
    blocks = re.findall(r"(?ms)^```\n(.*?)^```$", section)
    backup, restore = blocks[0::2] if kind == "postgresql" else blocks[1::2]
    return backup, restore


def run(commands: str, folder: Path, url: str) -> None:
    """Run commands of the page in a folder, with the database at `url`."""
    script = commands.replace(".venv/bin/python app.py", f"{sys.executable} {APP}")
    finished = subprocess.run(  # noqa: S603 - the script is that of the page.
        [find_tool("bash"), "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "APP_ENV": "test",
            "DATABASE_URL": url,
            "SIGNING_KEY_FILE": "signing-key.pem",
        },
        capture_output=True,
        check=False,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def database_in(folder: Path, kind: str, *, migrated: bool) -> AbstractContextManager[str]:
    """Give the URL of a database for the block, where the page expects the embedded one."""
    if kind == "sqlite":
        return nullcontext(f"sqlite:///{folder / 'var' / 'concord.db'}")
    return make_database_url(kind, folder, migrated=migrated)


class Buyer:
    """A customer who orders until told to stop; `orders` has the key of each acknowledged order."""

    def __init__(self, shop: Shop, url: str, product: int) -> None:
        self.shop = shop
        self.orders: dict[UUID, str] = {}
        self.began, self.enough = threading.Event(), threading.Event()
        self._headers = shop.person()[1]
        self._url, self._body = f"{url}/v1/orders", order_of(product)

    def order(self, key: str) -> UUID:
        answer = self.shop.post(self._url, self._headers, self._body, key=key)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    def work(self) -> None:
        for number in range(MOST_ORDERS):
            self.orders[self.order(f"order-{number}")] = f"order-{number}"
            if number == FIRST_ORDERS:
                self.began.set()
            if self.enough.is_set():
                break


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_made_under_load_restores_the_shop(kind: str, tmp_path: Path) -> None:
    for tool in TOOLS[kind]:
        find_tool(tool)
    backup, restore = documented(kind)
    old, new, port = tmp_path / "old", tmp_path / "new", free_port()
    url, key = f"http://{HOST}:{port}", "signing-key.pem"
    for folder in (old, new):
        (folder / "var").mkdir(parents=True)
    with (
        database_in(old, kind, migrated=True) as database_url,
        killed_server(old, port, database_url),
        open_shop(database_url, old / key, url) as shop,
        ThreadPoolExecutor(1) as pool,
    ):
        admin_id, admin = shop.person(admin=True)
        product = shop.product(10_000, admin_id)
        picture = shop.client.put(
            f"{url}/v1/products/{product}/images/1",
            content=make_picture("PNG"),
            headers=admin | {"Content-Type": "image/png"},
        )
        assert picture.status_code == 200, picture.text
        buyer = Buyer(shop, url, product)
        working = pool.submit(buyer.work)
        try:
            assert buyer.began.wait(60)
            before = dict(buyer.orders)
            run(backup, old, database_url)
        finally:
            buyer.enough.set()
            working.result()
        image = picture.json()["images"][0]["original"]["url"].removeprefix(url)
    # The old place is gone, and so is its database. The backup was kept elsewhere.
    (old / "backup").rename(new / "backup")
    shutil.rmtree(old)
    with database_in(new, kind, migrated=False) as database_url:
        run(restore, new, database_url)
        with (
            killed_server(new, port, database_url),
            open_shop(database_url, new / key, url) as shop,
        ):
            assert before.keys() <= shop.statuses().keys() <= buyer.orders.keys()
            check_books(shop.database)
            check_replay(shop.database, read_feed(shop.database))
            buyer.shop = shop
            # The token and the idempotency keys are those of the lost shop.
            assert {buyer.order(key) for key in before.values()} == before.keys()
            assert shop.client.get(f"{url}{image}").status_code == 200
            buyer.order("afterwards")
            check_books(shop.database)
