"""The code of the last release serves on today's schema, as it must while replicas are replaced."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from models.storage.schema_version import newest_version
from tests.databases import make_database_url
from tests.faults.live_shop import PRICE, open_shop, order_of, payment_of
from tests.live import running_program
from tests.models.books import check_books
from tests.tools import find_tool

ROOT = Path(__file__).parents[2]
RELEASE = "f0aae0f5fa1e168dca8269d7a1c8373aa5a29543"
"""The commit of the last release; each release changes it."""

pytestmark = pytest.mark.mission("M32")


def unpack(folder: Path) -> None:
    """Put the files of the last release into a folder; skip the test if they are not in Git."""
    git = [find_tool("git"), "-c", "safe.directory=*", "-C", str(ROOT)]
    found = subprocess.run([*git, "archive", RELEASE], capture_output=True, check=False)  # noqa: S603 - our own arguments.
    if found.returncode:
        pytest.skip(f"the history does not go back to the last release: {found.stderr.decode()}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")


@pytest.mark.postgresql
def test_the_last_release_serves_and_sells_on_the_newest_schema(tmp_path: Path) -> None:
    code, folder = tmp_path / "code", tmp_path / "run"
    folder.mkdir()
    unpack(code)
    program = (sys.executable, str(code / "app.py"))
    with make_database_url("postgresql", tmp_path) as database_url:
        environment = {"DATABASE_URL": database_url, "METRICS_PORT": "0"}
        with (
            running_program(program, folder, environment) as server,
            open_shop(database_url, folder / "var" / "signing-key.pem", server.url) as shop,
        ):
            # Today's code makes the accounts, the product and its stock.
            admin_id, admin = shop.person(admin=True)
            buyer, product = shop.person()[1], shop.product(5, admin_id)
            ready = shop.client.get(f"{server.url}/health/ready")
            assert ready.status_code == 200
            order = shop.post(f"{server.url}/v1/orders", buyer, order_of(product))
            assert order.status_code == 201, order.text
            path = f"{server.url}/v1/orders/{order.json()['id']}"
            for action, headers, body in (
                ("pay", admin, payment_of(PRICE)),
                ("ship", admin, {"carrier": "Post", "tracking_number": "1"}),
                ("refund", admin, {"reason": "broken"}),
            ):
                done = shop.post(f"{path}/{action}", headers, body)
                assert done.status_code in {200, 201}, (action, done.text)
            [listed] = shop.client.get(f"{server.url}/v1/orders", headers=admin).json()["items"]
            assert listed["status"] == "refunded"
            assert shop.database.schema_version() == newest_version()
            check_books(shop.database)
