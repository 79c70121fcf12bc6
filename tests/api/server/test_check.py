"""The command `check`: one line for each part of an installation, with the actual cause."""

from pathlib import Path

import pytest
from sqlalchemy import text

from api.credentials.key_rotation import make_key_file
from models.storage.database import Database
from tests.api.commands import Run, make_run
from tests.databases import make_database_url
from tests.live import free_port
from tests.servers.brokers import require_broker
from tests.servers.redis_server import require_redis
from tests.servers.s3_server import CREDENTIALS, S3_SERVERS, forbid, moto_bucket, nanio_bucket

pytestmark = pytest.mark.mission("M32")

PIECES = [
    "settings",
    "contract",
    "database",
    "schema",
    "clock",
    "Redis",
    "broker",
    "storage",
    "mail",
]
PIECES += ["key", "proxies"]


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
    # SQLite reads the same clock, so there is nothing to compare.
    assert list(found) == [piece for piece in PIECES if piece != "clock"]
    assert "serve migrates it" in found["schema"]
    assert "serve creates it" in found["key"]


@pytest.mark.postgresql
@pytest.mark.rabbitmq
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
            BROKER_URL=require_broker("rabbitmq"),
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
        "BROKER_URL": f"amqp://u:hunter2@{nowhere}",
        "MAIL_URL": f"smtp://u:hunter2@{nowhere}",
        "SIGNING_KEY_FILE": "key.pem",
    }
    found = check(run, 1, **broken)
    for piece in ("database", "Redis", "broker", "mail"):
        assert " failed " in found[piece]
        assert "refused" in found[piece].lower()
    assert "contains no unencrypted PEM private key" in found["key"]
    assert "hunter2" not in "".join(found.values())
    found = check(run, 1, SIGNING_KEY_FILE="open.pem")
    assert "has the mode 644" in found["key"]


def test_a_folder_that_cannot_be_created_is_reported(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = check(run, 1, DATABASE_URL="sqlite:///file/folder/concord.db")
    assert "database failed NotADirectoryError" in found["database"]
    assert "proxies" in found


@pytest.mark.parametrize("command", ["check", "migrate", "serve"])
def test_a_database_in_memory_is_one_line(run: Run, command: str) -> None:
    result = run(command, DATABASE_URL="sqlite:///:memory:")
    message = "DATABASE_URL must name a file, such as sqlite:///concord.db, and not memory"
    assert (result.exit_code, result.stderr) == (1, f"concord: {message}\n")


@pytest.mark.parametrize("server", S3_SERVERS)
def test_a_bucket_is_tried(run: Run, server: str) -> None:
    with S3_SERVERS[server]() as bucket:
        found = check(run, 0, STORAGE_URL=bucket, **CREDENTIALS)
        assert found["storage"].endswith("ok the bucket stores, returns and deletes files")
        found = check(run, 1, STORAGE_URL=bucket.replace("//pictures", "//none"), **CREDENTIALS)
    assert found["storage"].endswith("The specified bucket does not exist (NoSuchBucket)")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"AWS_ACCESS_KEY_ID": "else"}, "(InvalidAccessKeyId)"),
        ({"AWS_SECRET_ACCESS_KEY": "else"}, "(SignatureDoesNotMatch)"),
    ],
)
def test_credentials_that_a_bucket_refuses(run: Run, changes: dict[str, str], cause: str) -> None:
    with nanio_bucket() as bucket:
        found = check(run, 1, STORAGE_URL=bucket, **CREDENTIALS | changes)
    assert found["storage"].endswith(cause)
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in found["storage"]


def test_missing_credentials(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    found = check(run, 1, STORAGE_URL="s3://pictures")
    assert found["storage"].endswith("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize(
    ("action", "cause"),
    [
        ("s3:PutObject", "written: the store returned 403 Forbidden"),
        ("s3:GetObject", "read: the store returned 403 Forbidden"),
        ("s3:DeleteObject", "deleted: Access Denied"),
    ],
)
def test_a_permission_that_a_bucket_lacks(run: Run, action: str, cause: str) -> None:
    with moto_bucket() as bucket:
        forbid(bucket, action)
        found = check(run, 1, STORAGE_URL=bucket, **CREDENTIALS)
    assert found["storage"].endswith(f"failed a file cannot be {cause}")


@pytest.mark.parametrize(
    ("endpoint", "cause"),
    [
        ("http://127.0.0.1:{port}", "Connection refused"),
        ("http://nowhere.invalid", "failed to lookup address"),
    ],
)
def test_a_bucket_out_of_reach(run: Run, endpoint: str, cause: str) -> None:
    url = f"s3://pictures?endpoint={endpoint.format(port=free_port())}"
    assert f"written: {cause}" in check(run, 1, STORAGE_URL=url, **CREDENTIALS)["storage"]


def test_a_folder_for_files_is_tried(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    causes = {"file": "File exists", "file/below": "Not a directory", "/sys": "Permission denied"}
    for folder, cause in causes.items():
        assert f"written: {cause}" in check(run, 1, STORAGE_URL=f"file:{folder}")["storage"]
    found = check(run, 0, STORAGE_URL="file:new/files")
    assert found["storage"].endswith("ok the folder stores, returns and deletes files")
    assert list((tmp_path / "new/files").iterdir()) == []


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
