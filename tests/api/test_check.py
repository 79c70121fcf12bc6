"""The command `check`: one line for each part of an installation, with the actual cause."""

from pathlib import Path

import pytest
from sqlalchemy import text

from api.credentials.key_rotation import make_key_file
from models.storage.database import Database
from tests.api.commands import Run, make_run
from tests.databases import make_database_url
from tests.live import free_port
from tests.redis_server import require_redis

pytestmark = pytest.mark.mission("M32")

PIECES = ["settings", "contract", "database", "schema", "clock", "Redis", "mail", "key", "proxies"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(tmp_path, monkeypatch)


def check(run: Run, code: int, **environment: str) -> dict[str, str]:
    """Run the command, and return what it says of each piece by the piece's first word."""
    result = run("check", **environment)
    assert result.exit_code == code, result.output
    lines = result.stdout.splitlines()
    assert all(line.isprintable() for line in lines)
    return {line.split()[0]: " ".join(line.split()) for line in lines}


def test_a_new_installation_passes_with_notes(run: Run) -> None:
    found = check(run, 0)
    assert list(found) == PIECES
    assert "serve migrates it" in found["schema"]
    assert "serve creates it" in found["key"]


@pytest.mark.postgresql
@pytest.mark.redis
def test_a_complete_installation_passes(run: Run, tmp_path: Path) -> None:
    make_key_file(tmp_path / "key.pem")
    with make_database_url("postgresql", tmp_path) as url:
        found = check(
            run,
            0,
            APP_ENV="production",
            DATABASE_URL=url,
            SIGNING_KEY_FILE="key.pem",
            REDIS_URL=require_redis(),
            MAIL_URL="file:mail",
            PUBLIC_URL="https://api.example.com",
            TRUSTED_PROXIES="10.0.0.5",
        )
    assert list(found) == PIECES
    assert all(" ok " in line for line in found.values()), found
    assert "10.0.0.5" in found["proxies"]


def test_each_failure_names_its_cause_and_no_password(run: Run, tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    (tmp_path / "key.pem").touch(0o644)
    make_key_file(tmp_path / "open.pem")
    (tmp_path / "open.pem").chmod(0o644)
    broken = {
        "DATABASE_URL": f"postgresql://u:hunter2@{nowhere}/concord",
        "REDIS_URL": f"redis://:hunter2@{nowhere}/0",
        "MAIL_URL": f"smtp://u:hunter2@{nowhere}",
        "SIGNING_KEY_FILE": "key.pem",
    }
    found = check(run, 1, **broken)
    for piece in ("database", "Redis", "mail"):
        assert " failed " in found[piece]
        assert "refused" in found[piece].lower()
    assert "contains no unencrypted PEM private key" in found["key"]
    assert "hunter2" not in "".join(found.values())
    found = check(run, 1, SIGNING_KEY_FILE="open.pem")
    assert "has the mode 644" in found["key"]


def test_invalid_settings_are_all_that_is_reported(run: Run) -> None:
    result = run("check", PORT="eighty")
    assert result.exit_code == 1
    assert result.stderr.startswith("concord: PORT ")


def test_an_older_schema_fails(run: Run, tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        assert " ok " in check(run, 0, DATABASE_URL=url)["schema"]
        database = Database(url)
        statement = text("UPDATE alembic_version SET version_num = '0001'")
        database.transact(lambda session: session.execute(statement))
        database.dispose()
        assert "run the command migrate" in check(run, 1, DATABASE_URL=url)["schema"]
