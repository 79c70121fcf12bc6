"""Commands that work on the database: migrations, administrators, the demo (MISSION M20)."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.access.secret_box import SecretBox
from models.identity.password import Passwords
from models.identity.user import User
from models.identity.user_list import find_users
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.schema_version import newest_version
from tests.api.commands import ADMIN, PASSWORD, Run, failure, inherited, make_run
from tests.databases import KINDS, SERVER, make_database_url
from tests.live import APP

pytestmark = pytest.mark.mission("M20")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_migrate_prepares_a_database_and_can_be_repeated(
    run: Run, tmp_path: Path, kind: str
) -> None:
    with make_database_url(kind, tmp_path, migrated=False) as url:
        database = Database(url)
        assert not database.is_ready()
        for _ in range(2):
            assert run("migrate", DATABASE_URL=url).exit_code == 0
        assert database.is_ready()
        database.dispose()


@pytest.mark.parametrize("command", [("migrate",), ("seed-demo",), ADMIN], ids=lambda c: c[0])
@pytest.mark.parametrize(
    "url", ["postgresql://nobody:hunter2@127.0.0.1:1/none", "sqlite:////proc/none/a.db"]
)
def test_an_unreachable_database_is_one_line(run: Run, command: tuple[str, ...], url: str) -> None:
    [line] = failure(run(*command, DATABASE_URL=url, ADMIN_PASSWORD=PASSWORD))
    assert "hunter2" not in line


def test_a_file_that_is_not_a_database_is_one_line(run: Run) -> None:
    Path("a.db").write_text("This is a letter. " * 100)
    [line] = failure(run("migrate", DATABASE_URL="sqlite:///a.db"))
    assert "database" in line


def test_create_admin_creates_an_administrator_who_can_sign_in(run: Run) -> None:
    result = run(*ADMIN, DATABASE_URL="sqlite:///a.db", ADMIN_PASSWORD=PASSWORD)
    assert (result.exit_code, result.stdout) == (0, "Administrator 1 created.\n")
    database = Database("sqlite:///a.db")
    user = database.transact(lambda session: session.get_one(User, 1), write=False)
    database.dispose()
    assert (user.name, user.role, user.active, user.email_verified) == (
        "Grace Hopper", "admin", True, True,
    )  # fmt: skip
    assert user.password_hash is not None
    assert PASSWORD not in user.password_hash


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"--email": "GRACE@concord.example"}, "exists"),
        ({"--email": "nobody"}, "email"),
        ({"--name": "\n"}, "name"),
        ({"ADMIN_PASSWORD": "short"}, "8"),
        ({"ADMIN_PASSWORD": "password123"}, ""),
        ({"ADMIN_PASSWORD": "grace@concord.example"}, ""),
        ({"ADMIN_PASSWORD": ""}, "ADMIN_PASSWORD"),
    ],
)
def test_create_admin_reports_mistakes_in_one_line(
    run: Run, changes: dict[str, str], reason: str
) -> None:
    environment = {"DATABASE_URL": "sqlite:///a.db", "ADMIN_PASSWORD": PASSWORD}
    assert run(*ADMIN, **environment).exit_code == 0
    given = {"--email": "other@concord.example", "--name": "Other", **changes}
    environment["ADMIN_PASSWORD"] = given.pop("ADMIN_PASSWORD", PASSWORD)
    options = [part for pair in given.items() for part in pair]
    [line] = failure(run("create-admin", *options, **environment))
    assert reason in line


def test_create_admin_without_a_terminal_asks_for_the_variable(run: Run) -> None:
    [line] = failure(run(*ADMIN, DATABASE_URL="sqlite:///a.db"))
    assert "ADMIN_PASSWORD" in line


def test_the_password_of_an_administrator_may_be_in_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    settings = {"DATABASE_URL": "sqlite:///a.db", "ADMIN_PASSWORD_FILE": "password"}
    assert run(*ADMIN, **settings).exit_code == 0
    database = Database("sqlite:///a.db")
    user = database.transact(lambda session: session.get_one(User, 1), write=False)
    database.dispose()
    assert Passwords().verify(user.password_hash, PASSWORD)
    [line] = failure(run(*ADMIN, **settings | {"ADMIN_PASSWORD_FILE": "none"}))
    assert line.startswith("ADMIN_PASSWORD_FILE cannot be read")


def test_a_terminal_asks_for_the_password_twice_and_hides_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and file.
        [sys.executable, str(APP), *ADMIN],
        env={**inherited(), "DATABASE_URL": "sqlite:///a.db"},
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, asked = b"", 0
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
        if shown.count(b": ") > asked:
            asked = shown.count(b": ")
            os.write(ours, f"{PASSWORD}\n".encode())
    os.close(ours)
    assert process.wait(60) == 0, shown
    assert asked == 2
    assert PASSWORD.encode() not in shown
    assert b"Administrator 1 created." in shown


def test_the_demo_is_reproducible_and_added_once(run: Run) -> None:
    printed = [
        run("seed-demo", "--count", "12", DATABASE_URL=url).stdout.splitlines()
        for url in ("sqlite:///a.db", "sqlite:///a.db", "sqlite:///b.db")
    ]
    people = "accounts added; the password of each is 'walrus-piano-lantern'."
    full = [f"12 {people}", "60 products and 200 orders added."]
    assert printed == [full, [f"0 {people}", "0 products and 0 orders added."], full]
    names = []
    for url in ("sqlite:///a.db", "sqlite:///b.db"):
        database = Database(url)
        page = database.transact(lambda session: find_users(session, limit=100), write=False)
        names.append([(user.name, user.email) for user in page.items])
        database.dispose()
    assert names[0] == names[1]
    # One account more is the shop's own.
    assert len(names[0]) == 13


@pytest.mark.postgresql
def test_serve_reports_a_database_that_needs_migration(tmp_path: Path, run: Run) -> None:
    with make_database_url("postgresql", tmp_path, migrated=False) as url:
        [line] = failure(run("serve", DATABASE_URL=url))
    assert line.endswith("run the command migrate")


@pytest.mark.postgresql
@pytest.mark.parametrize("name", ["migrate", "serve", "seed-demo"])
def test_the_cause_of_an_unusable_database_is_named(tmp_path: Path, run: Run, name: str) -> None:
    with make_database_url("postgresql", tmp_path) as url:
        database = Database(url)
        statement = text("UPDATE alembic_version SET version_num = :version")
        database.transact(lambda session: session.execute(statement, {"version": "banana"}))
        [line] = failure(run(name, DATABASE_URL=url))
        assert "'banana', which is not a version of Concord" in line
        newest = {"version": newest_version()}
        database.transact(lambda session: session.execute(statement, newest))
        database.dispose()


@pytest.mark.postgresql
def test_migrate_names_the_cause_that_the_server_reports(run: Run) -> None:
    server = make_url(SERVER)
    cases = {
        # Either the password is wrong or, where the server trusts everybody, the role unknown.
        server.set(username="nobody", password="hunter2"): '"nobody"',
        server.set(database="no such database"): '"no such database" does not exist',
        server.update_query_dict({"sslmode": "banana"}): 'invalid sslmode value: "banana"',
    }
    for url, cause in cases.items():
        [line] = failure(run("migrate", DATABASE_URL=url.render_as_string(hide_password=False)))
        assert cause in line
        assert "hunter2" not in line


def test_production_refuses_the_demo(tmp_path: Path, run: Run) -> None:
    url = f"sqlite:///{tmp_path / 'concord.db'}"
    [line] = failure(run("seed-demo", APP_ENV="production", DATABASE_URL=url))
    assert "not for production" in line


def test_reset_second_factor_lets_its_owner_sign_in_again(run: Run) -> None:
    run(*ADMIN, DATABASE_URL="sqlite:///a.db", ADMIN_PASSWORD=PASSWORD)
    database = Database("sqlite:///a.db")

    def enrol(session: Session) -> None:
        user = session.get_one(User, 1)
        SecondFactor.enrol(session, SecretBox(b"k" * 32), user, "shop.example")
        session.get_one(SecondFactor, 1).confirmed_at = utcnow()

    def state(session: Session) -> tuple[bool, int]:
        return SecondFactor.is_active(session, 1), session.get_one(User, 1).token_version

    database.transact(enrol, write=True)
    assert database.transact(state, write=False) == (True, 1)
    result = run("reset-second-factor", *ADMIN[1:3], DATABASE_URL="sqlite:///a.db")
    assert (result.exit_code, result.stdout) == (0, "The second factor was removed.\n")
    assert database.transact(state, write=False) == (False, 2)
    [line] = failure(
        run("reset-second-factor", "--email", "b@concord.example", DATABASE_URL="sqlite:///a.db")
    )
    assert "no account" in line
    database.dispose()
