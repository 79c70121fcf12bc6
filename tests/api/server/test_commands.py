"""The command line: starting the service, and errors that prevent the start (MISSION M19)."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

import app as application
from api.server.processes import serving
from tests.api.commands import ADMIN, PASSWORD, Run, failure, inherited, make_run
from tests.live import APP, running_server

pytestmark = pytest.mark.mission("M19")

COMMANDS = ("serve", "check", "migrate", "create-admin", "rotate-key", "seed-demo", "openapi")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(tmp_path, monkeypatch)


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was served while the test ran: nothing is, in fact."""
    served: list[object] = []
    monkeypatch.setattr(serving, "serve", lambda *arguments: served.append(arguments))
    return served


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"  {command} " in result.stdout for command in COMMANDS)
    for command in COMMANDS:
        assert run(command, "-h").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("serve", "--fly"),
        ("create-admin",),
        ("create-admin", "--name", "Grace"),
        (*ADMIN, "--password", PASSWORD),
        ("seed-demo", "--count", "many"),
        ("seed-demo", "--count", "-1"),
        ("openapi", "--format", "xml"),
    ],
)
def test_incorrect_usage_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, ADMIN_PASSWORD=PASSWORD)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert PASSWORD not in result.output


@pytest.mark.parametrize("command", ["serve", "migrate", "create-admin", "seed-demo"])
def test_all_invalid_settings_are_named_before_listening(
    run: Run, listened: list[object], command: str
) -> None:
    arguments = ADMIN if command == "create-admin" else (command,)
    settings = {"PORT": "many", "THREADS": "0", "DATABASE_URL": "mysql://root:hunter2@a/b"}
    lines = failure(run(*arguments, ADMIN_PASSWORD=PASSWORD, **settings))
    assert [line.partition(" ")[0] for line in lines] == ["PORT", "DATABASE_URL", "THREADS"]
    assert "hunter2" not in str(lines)
    assert listened == []


def test_production_names_missing_settings(run: Run, listened: list[object]) -> None:
    lines = failure(run("serve", APP_ENV="production"))
    assert {line.partition(" ")[0] for line in lines} == {"DATABASE_URL", "SIGNING_KEY_FILE"}
    assert listened == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), ("no key at all", "no unencrypted PEM private key")],
)
def test_an_invalid_key_stops_the_start(
    run: Run, listened: list[object], content: str | None, reason: str
) -> None:
    if content is not None:
        Path("key.pem").write_text(content)
    production = {"APP_ENV": "production", "DATABASE_URL": "sqlite:///a.db"}
    [line] = failure(run("serve", SIGNING_KEY_FILE="key.pem", **production))
    assert reason in line
    assert "SIGNING_KEY_FILE" in line
    assert listened == []


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (
            ("paths/health/health_ready.yaml", "operationId: get_readiness", "operationId: rest"),
            "api.health.rest",
        ),
        (("paths/divide/divide.yaml", "get:", "get: get:"), "paths/divide/divide.yaml: line 1"),
        (("openapi.yaml", "openapi: 3.0.3", "openapi: 3.0.3\nmore: 1"), "openapi.yaml"),
        (
            ("paths/users/users.yaml", "[admin:access, users:list]", "[users:list]"),
            "paths/users/users.yaml: /get/security/0/bearer: requires users:list",
        ),
        (
            ("paths/profile/profile.yaml", "profile:read", "profile:see"),
            "paths/profile/profile.yaml: /get/security/0/bearer: requires the scope profile:see",
        ),
        (("components/schemas/Role.yaml", "[user, admin]", "user"), "components/schemas/Role.yaml"),
        (("components/schemas/PersonName.yaml", "maxLength: 100", "maxLength: x"), "PersonName"),
        (("components/schemas/Cursor.yaml", "pattern: '^[", "pattern: '^(?=a)["), "(?=a)"),
        (
            ("openapi.yaml", "name: health", "name: wealth"),
            "paths/health/health.yaml: /get/tags/0: the tag",
        ),
    ],
)
@pytest.mark.parametrize("command", ["serve", "openapi"])
def test_a_broken_contract_is_one_line_with_its_place(
    run: Run,
    listened: list[object],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    edit: tuple[str, str, str],
    named: str,
) -> None:
    file, text, other = edit
    folder = tmp_path / "openapi"
    shutil.copytree(application.CONTRACT, folder)
    content = (folder / file).read_text()
    assert text in content
    (folder / file).write_text(content.replace(text, other, 1))
    monkeypatch.setattr(application, "CONTRACT", folder)
    [line] = failure(run(command))
    assert named in line
    assert listened == []


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        finished = subprocess.run(  # noqa: S603 - our own interpreter and file.
            [sys.executable, str(APP), "serve"],
            env={**inherited(), "PORT": str(taken.getsockname()[1]), "METRICS_PORT": "0"},
            cwd=APP.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] == "concord: Address already in use: HOST and PORT"
    assert "Traceback" not in finished.stderr


@pytest.mark.mission("M27")
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_openapi_prints_the_served_document(run: Run, client: httpx.Client, form: str) -> None:
    result = run("openapi", "--format", form, PUBLIC_URL="http://concord.example")
    assert result.exit_code == 0
    assert result.stdout_bytes == client.get(f"/openapi.{form}").content
    urls = [server["url"] for server in yaml.load(result.stdout, yaml.CSafeLoader)["servers"]]
    assert urls == ["http://concord.example", "/"]


@pytest.mark.mission("M20")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_creates_its_database_serves_and_exits_cleanly(tmp_path: Path, workers: str) -> None:
    with running_server(tmp_path, WORKERS=workers, METRICS_PORT="0") as server:
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/health/ready").json()["status"] == "ready"
            person = {"name": "Ada", "email": "ada@concord.example", "password": PASSWORD}
            assert client.post("/v1/users", json=person).status_code == 201
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        assert workers == "1" or len(children.read_text().split()) >= 2
    assert "Traceback" not in server.log_text()
