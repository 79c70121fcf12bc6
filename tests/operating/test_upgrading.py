"""The upgrade drill: from the last release to this one, back from a broken one, and to a backup."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from models.orders.order import Order
from models.storage.database import Database
from models.storage.schema_version import newest_version
from tests.databases import KINDS
from tests.live import APP, HOST, free_port
from tests.models.books import check_books
from tests.operating.test_last_release import ROOT, unpack
from tests.operating.test_restoring import TOOLS, database_in, documented, run
from tests.tools import find_tool

SCRIPT = ROOT / "deploy" / "upgrade.sh"
ADMIN = {"email": "ada@concord.example", "password": "seven green bicycles sing"}
CONCORD = '#!/bin/sh\nexec {python} {app} "$@"\n'
BROKEN = '#!/bin/sh\n[ "$1" != serve ] || exit 1\nexec {python} {app} "$@"\n'
# Like systemd, it waits until the service listens or has ended.
RESTART = """#!/bin/sh
if [ -e process ]; then kill "$(cat process)"; fi
while curl --silent --output /dev/null "$URL/health"; do sleep 0.1; done
nohup "$CONCORD/bin/concord" serve >> server.log 2>&1 &
echo $! > process
until curl --silent --output /dev/null "$URL/health"; do
  sleep 0.1
  kill -0 "$(cat process)" || { rm process; exit 1; }
done
"""

pytestmark = [
    pytest.mark.mission("M32"),
    # Each of its releases starts several times.
    pytest.mark.timeout(400),
]


@dataclass
class Site:
    """A machine with several releases, one of which serves."""

    folder: Path
    database_url: str
    url: str = field(default_factory=lambda: f"http://{HOST}:{free_port()}")
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of the service and of the script."""
        return {
            "PATH": os.environ["PATH"],
            "APP_ENV": "test",
            "DATABASE_URL": self.database_url,
            "SIGNING_KEY_FILE": "signing-key.pem",
            "PORT": self.url.rsplit(":", 1)[1],
            "METRICS_PORT": "0",
            "ADMIN_PASSWORD": ADMIN["password"],
            "CONCORD": str(self.folder / "concord"),
            "RESTART": str(self.folder / "restart"),
            "READY": f"{self.url}/health/ready",
            "URL": self.url,
            **self.settings,
        }

    def release(self, name: str, app: Path, program: str = CONCORD) -> Path:
        """Install a release."""
        command = self.folder / name / "bin" / "concord"
        command.parent.mkdir(parents=True)
        self.write(command, program.format(python=sys.executable, app=app))
        return self.folder / name

    def write(self, file: Path, text: str) -> None:
        file.write_text(text)
        file.chmod(0o755)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own commands.
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )

    def succeed(self, *command: str | Path) -> str:
        finished = self.run(*command)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    def stop(self) -> None:
        """Stop the service, if it runs."""
        process = self.folder / "process"
        if process.exists():
            os.kill(int(process.read_text()), signal.SIGKILL)
            process.unlink()


@pytest.fixture
def site(kind: str, tmp_path: Path) -> Iterator[Site]:
    """The last release serves an empty database."""
    for tool in (*TOOLS[kind], "curl"):
        find_tool(tool)
    (tmp_path / "var").mkdir()
    unpack(tmp_path / "code")
    with database_in(tmp_path, kind, migrated=False) as url:
        site = Site(tmp_path, url)
        (tmp_path / "concord").symlink_to(site.release("old", tmp_path / "code" / "app.py"))
        site.write(tmp_path / "restart", RESTART)
        for command in (
            ("concord/bin/concord", "migrate"),
            ("concord/bin/concord", "create-admin", "--name", "Ada", "--email", ADMIN["email"]),
            ("./restart",),
        ):
            site.succeed(*command)
        try:
            yield site
        finally:
            site.stop()


@dataclass
class Customer:
    """Orders one product, again and again."""

    client: httpx.Client
    product: int = 0
    orders: list[str] = field(default_factory=list)

    def post(self, path: str, body: object) -> dict[str, object]:
        answer = self.client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.is_success, answer.text
        found: dict[str, object] = answer.json()
        return found

    def order(self) -> None:
        """Order one unit, and remember the order."""
        body = {"lines": [{"product_id": self.product, "quantity": 1}]}
        self.orders.append(str(self.post("/v1/orders", body)["id"]))

    def sees_all(self) -> bool:
        """Whether the service lists the acknowledged orders and no others."""
        listed = self.client.get("/v1/orders").raise_for_status().json()["items"]
        return {order["id"] for order in listed} == set(self.orders)


def start_shopping(client: httpx.Client) -> Customer:
    """Sign in as the administrator, who sells a product and orders it too."""
    signed_in = client.post("/v1/auth/token", json=ADMIN).raise_for_status().json()
    client.headers["Authorization"] = f"Bearer {signed_in['access_token']}"
    customer = Customer(client)
    price = {"amount": 1000, "currency": "EUR"}
    product = customer.post("/v1/products", {"sku": "MUG", "name": "Mug", "price": price})
    customer.product = int(str(product["id"]))
    customer.post(
        f"/v1/products/{customer.product}/stock-adjustments", {"quantity": 10, "reason": "new"}
    )
    customer.order()
    return customer


@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_keeps_all_orders_and_returns_if_it_fails(
    kind: str, site: Site, tmp_path: Path
) -> None:
    link, new = tmp_path / "concord", site.release("new", APP)
    broken = site.release("broken", APP, BROKEN)
    with httpx.Client(base_url=site.url, timeout=30) as client:
        customer = start_shopping(client)

        # The release does not start, so the old one serves again, on the new schema.
        failed = site.run(SCRIPT, broken, tmp_path / "first")
        assert (failed.returncode, link.readlink()) == (1, tmp_path / "old"), failed
        assert "did not become ready. Returning to" in failed.stderr
        customer.order()
        assert customer.sees_all()

        assert f"to {new}." in site.succeed(SCRIPT, new, tmp_path / "second")
        assert link.readlink() == new
        assert customer.sees_all()
        before = set(customer.orders)
        customer.order()
        assert customer.sees_all()

        # The backup of the upgrade becomes the database of a new machine.
        site.stop()
        folder = tmp_path / "machine"
        folder.mkdir()
        (tmp_path / "second").rename(folder / "backup")
        shutil.copy(tmp_path / "signing-key.pem", folder / "backup")
        (folder / "backup" / "files").mkdir()
        with database_in(folder, kind, migrated=False) as url:
            run(documented(kind)[1], folder, url)
            database = Database(url)
            assert database.schema_version() == newest_version()
            check_books(database)
            stored = database.read(lambda reader: reader.scalars(select(Order.id)).all())
            database.dispose()
    assert {str(order) for order in stored} == before


@pytest.fixture
def pretended(tmp_path: Path) -> Site:
    """A machine whose releases do nothing, and are ready if the link leads to the new one."""
    find_tool("curl")
    find_tool("sqlite3")
    folder = tmp_path / "a machine"
    for name in ("old", "new"):
        command = folder / "releases" / name / "bin" / "concord"
        command.parent.mkdir(parents=True)
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
    (folder / "releases" / "new" / "ready").touch()
    link = folder / "concord"
    link.symlink_to("releases/old")
    (folder / "database-url").write_text(f"sqlite:///{folder}/concord.db\n")
    settings = {
        "DATABASE_URL": "",
        "DATABASE_URL_FILE": str(folder / "database-url"),
        "READY": (link / "ready").as_uri(),
        "RESTART": "true",
        "PATIENCE": "0",
    }
    return Site(folder, "", settings=settings)


def test_an_upgrade_takes_relative_folders_and_a_file_with_the_url(
    pretended: Site,
) -> None:
    pretended.succeed(SCRIPT, "releases/new", "a backup")

    assert (pretended.folder / "concord").readlink() == pretended.folder / "releases" / "new"
    assert (pretended.folder / "a backup" / "concord.db").exists()


def test_an_upgrade_restores_a_relative_link(pretended: Site) -> None:
    (pretended.folder / "releases" / "new" / "ready").unlink()

    assert pretended.run(SCRIPT, "releases/new", "backup").returncode == 1
    assert (pretended.folder / "concord").readlink() == Path("releases/old")


def test_an_upgrade_needs_a_link_and_settings_and_else_changes_nothing(pretended: Site) -> None:
    without = pretended.run("env", "-u", "DATABASE_URL_FILE", SCRIPT, "releases/new", "backup")
    assert "DATABASE_URL_FILE" in without.stderr
    link = pretended.folder / "concord"
    link.unlink()
    # It is ready, although it is not the new release.
    shutil.copytree(pretended.folder / "releases" / "new", link)
    folder = pretended.run(SCRIPT, "releases/new", "backup")

    assert [each.returncode > 0 for each in (without, folder)] == [True, True]
    assert not (pretended.folder / "backup").exists()


def test_an_upgrade_whose_link_cannot_be_made_fails(pretended: Site) -> None:
    (pretended.folder / "concord.new").mkdir()
    (pretended.folder / "releases" / "old" / "ready").touch()

    failed = pretended.run(SCRIPT, "releases/new", "backup")
    assert (failed.returncode, failed.stdout) == (1, "")
