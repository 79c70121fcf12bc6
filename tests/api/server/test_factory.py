"""Applications share nothing, and importing creates nothing (MISSION M2, M3)."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.api.accounts import bearer, token_for
from tests.databases import make_database_url
from tests.factories import make_account
from tests.service import Service, running

pytestmark = pytest.mark.mission("M2")

ROOT = Path(__file__).parents[3]

WATCHED_IMPORT = """
import importlib, os, pkgutil, sys, threading

root, *packages = sys.argv[1:]
sys.path.insert(0, root)
CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate")
REACHING = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "sqlite3.connect")
OURS = tuple(os.path.join(root, name) for name in ("openapi", "api", "models", "var", ".env"))

def watch(event, arguments):
    if event in CHANGING + REACHING or event.startswith(("subprocess.", "os.exec", "os.fork")):
        print(event, arguments)
    if event == "socket.bind" and arguments[1][1:2] != (0,):
        # A library binds to a free port, and lets go of it, to learn whether there is IPv6.
        print(event, arguments)
    if event == "open":
        path, mode, flags = arguments
        if (mode and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR):
            print("written", path)
        if str(path).startswith(OURS) and not str(path).endswith((".py", ".pyc")):
            print("read", path)

descriptors = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
sys.addaudithook(watch)
for name in packages:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
        if ".migrations" not in found.name:
            importlib.import_module(found.name)
if descriptors and set(os.listdir("/proc/self/fd")) != descriptors:
    print("left open", os.listdir("/proc/self/fd"))
if threading.active_count() != 1:
    print("threads", threading.enumerate())
"""

MADE = """
import os, sys

sys.path.insert(0, sys.argv[1])
from app import Settings, create_app

create_app(Settings.from_environment(os.environ)).close()
print(*sys.modules)
"""

# What serving has no use for: what other commands load, and tools that are for tests.
UNUSED = {
    "PIL",
    "alembic",
    "email_validator",
    "httpcore",
    "httpx",
    "iso4217",
    "jsonschema",
    "mako",
    "markdown_it",
    "models.demo.demo_accounts",
    "obstore",
    "openapi_spec_validator",
    "opentelemetry",
    "psycopg",
    "pydantic_settings",
    "redis",
    "requests",
    "schemathesis",
    "starlette.testclient",
    "tqdm",
    "werkzeug.serving",
    "werkzeug.test",
    "zxcvbn",
}

WEB = ("flask", "connexion", "starlette", "werkzeug", "uvicorn", "httptools", "api", "app")


def python(folder: Path, code: str, *arguments: str, **environment: str) -> str:
    """Run code in a new interpreter in an empty folder, and give what it printed."""
    finished = subprocess.run(  # noqa: S603 - our own interpreter and code.
        [sys.executable, "-B", "-W", "ignore", "-c", code, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode()


def test_nothing_is_opened_or_connected_at_import(tmp_path: Path) -> None:
    # Settings that nobody could use show that nobody reads them yet.
    unusable = {"DATABASE_URL": "?", "PORT": "x", "APP_ENV": "x", "SIGNING_KEY_FILE": "/"}
    assert python(tmp_path, WATCHED_IMPORT, str(ROOT), "app", "api", "models", **unusable) == ""
    assert list(tmp_path.iterdir()) == []


def test_serving_loads_nothing_unused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    loaded = python(tmp_path, MADE, str(ROOT), APP_ENV="test", DATABASE_URL=url).split()
    assert UNUSED.intersection(loaded) == set()


@pytest.mark.mission("M3")
def test_models_run_without_web_libraries(tmp_path: Path) -> None:
    code = f"{WATCHED_IMPORT}\nprint(*sorted(set(sys.modules) & {set(WEB)}))"
    assert python(tmp_path, code, str(ROOT), "models").split() == []


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Service, Service]]:
    """Two applications in this process, as different as settings make them."""
    different = (
        {
            "PUBLIC_URL": "https://first.example",
            "CORS_ORIGINS": "https://app.first.example",
            "MAX_BODY_BYTES": "1024",
            "THREADS": "1",
        },
        {"PUBLIC_URL": "https://second.example", "CORS_ORIGINS": "https://app.second.example"},
    )
    services = []
    with ExitStack() as stack:
        for number, environment in enumerate(different):
            folder = tmp_path / str(number)
            folder.mkdir()
            url = stack.enter_context(make_database_url("sqlite", folder))
            services.append(stack.enter_context(running(folder, url, **environment)))
        yield services[0], services[1]


def test_two_applications_in_one_process_share_nothing(two: tuple[Service, Service]) -> None:
    first, second = two
    with (
        httpx.Client(base_url=first.url, headers={"X-Forwarded-For": "192.0.2.1"}) as one,
        httpx.Client(base_url=second.url, headers={"X-Forwarded-For": "192.0.2.1"}) as other,
    ):
        user = make_account(first)
        token = bearer(token_for(first, user))
        credentials = {"email": user.email, "password": "not the password"}
        # Accounts and keys: what is somebody in one is nobody in the other.
        assert one.get("/v1/profile", headers=token).status_code == 200
        assert other.get("/v1/profile", headers=token).status_code == 401
        make_account(second)
        assert other.get("/v1/profile", headers=token).status_code == 401
        # Limits: what one has counted is nothing to the other.
        for _ in range(5):
            assert one.post("/v1/auth/token", json=credentials).status_code == 401
        assert one.post("/v1/auth/token", json=credentials).status_code == 429
        assert other.post("/v1/auth/token", json=credentials).status_code == 401
        # Addresses, body sizes and origins are those of each one's settings.
        for client, name in ((one, "first"), (other, "second")):
            problem = client.get("/nowhere").json()["type"]
            assert problem == f"https://{name}.example/problems/not-found"
            origin = {"Origin": f"https://app.{name}.example"}
            allowed = client.get("/health", headers=origin).headers
            assert allowed["access-control-allow-origin"] == origin["Origin"]
        stranger = {"Origin": "https://app.second.example"}
        assert "access-control-allow-origin" not in one.get("/health", headers=stranger).headers
        long = {"email": "x@concord.example", "password": "x", "padding": "x" * 2000}
        assert one.post("/v1/users", json=long).status_code == 413
        assert other.post("/v1/users", json=long).status_code == 422
        # Each counts its own requests, and is ready or not by itself.
        first.app.draining.set()
        assert one.get("/health/ready").status_code == 503
        assert other.get("/health/ready").status_code == 200
        assert 'operation="create_token",status="429"' in first.app.metrics.text()
        assert 'operation="create_token",status="429"' not in second.app.metrics.text()


def test_closing_an_application_leaves_others_running(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url, running(tmp_path, url) as staying:
        headers = bearer(token_for(staying, make_account(staying)))
        with running(tmp_path, url) as going:
            assert httpx.get(f"{going.url}/v1/profile", headers=headers).status_code == 200
        answer = httpx.get(f"{staying.url}/v1/profile", headers=headers)
        assert answer.status_code == 200
