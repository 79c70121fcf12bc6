"""The files of `deploy/`: units and images, tried with the programs that read them."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory

import pytest
import yaml

from api.credentials.signing import KeyRing
from api.server.processes import supervisor
from api.server.settings import Settings
from tests.databases import make_database_url
from tests.faults.proxies import running_proxy
from tests.installed import ROOT, build_wheel, install, run
from tests.live import HOST, running_program, running_server, running_worker
from tests.mailbox import wait_for
from tests.servers.proxy_examples import example
from tests.test_docs import README, TOUR_URL, as_pattern, follow_tour, tour
from tests.tools import find_tool, without

DEPLOY = ROOT / "deploy"
EXPOSURE = 2.0
"""The highest exposure that `systemd-analyze security` may find; 10 is none at all."""

pytestmark = pytest.mark.mission("M32")


@pytest.fixture
def machine() -> Iterator[Path]:
    """A folder that other users can enter, unlike those of pytest."""
    with TemporaryDirectory(prefix="concord-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def unprivileged() -> tuple[str, ...]:
    """The beginning of a command that an unprivileged user is to run."""
    setpriv = find_tool("setpriv")
    if os.geteuid() != 0:
        without("only root can run commands as other users")
    user = pwd.getpwnam("nobody")
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}")
    return setpriv, *ids, "--clear-groups", "--no-new-privs", "--bounding-set=-all"


def copy_python(place: Path) -> str:
    """Copy the Python that runs the tests, which may be in a private home; return the copy."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "bin").mkdir(parents=True)
    shutil.copy(base / "bin" / version, place / "bin")
    unused = shutil.ignore_patterns("site-packages", "dist-packages", "test", "config-*")
    shutil.copytree(base / "lib" / version, place / "lib" / version, ignore=unused)
    for library in (base / "lib").glob(f"lib{version}.so*"):
        shutil.copy(library, place / "lib")
    return str(place / "bin" / version)


@pytest.mark.postgresql
def test_an_unprivileged_user_runs_the_package_behind_tls(
    certificate: Path, machine: Path, tmp_path: Path
) -> None:
    find_tool("curl")
    user = unprivileged()
    python = copy_python(machine / "python")
    program = (*user, install(build_wheel(tmp_path), machine / "prefix", python))
    key = machine / "signing-key.pem"
    places = [machine / name for name in ("first", "second", "worker")]
    for place in places:
        place.mkdir()
        shutil.chown(place, "nobody")
    with make_database_url("postgresql", tmp_path, migrated=False) as url:
        KeyRing.load(key, create=True)
        shutil.chown(key, "nobody")
        environment = {
            "APP_ENV": "production",
            "DATABASE_URL": url,
            "SIGNING_KEY_FILE": str(key),
            "STORAGE_URL": f"file:{places[0] / 'files'}",
            "MAIL_URL": f"file:{places[2] / 'mail'}",
            "PUBLIC_URL": TOUR_URL,
            "METRICS_PORT": "0",
            "DRAIN_SECONDS": "0",
            "TRUSTED_PROXIES": HOST,
            "TRUST_FORWARDED_HOST": "true",
            "HOME": str(places[0]),
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(machine / "python" / "lib"),
        }
        migrated = subprocess.run(  # noqa: S603 - our own package.
            [*program, "migrate"], env=environment, cwd=places[2], check=False, stderr=PIPE
        )
        assert migrated.returncode == 0, migrated.stderr.decode()
        with (
            running_worker(places[2], environment, program=program),
            running_program(program, places[0], environment, "--no-upkeep") as first,
            running_program(program, places[1], environment, "--no-upkeep") as second,
            running_proxy(example("nginx", certificate, second.port), first.port, tmp_path) as port,
        ):
            steps, trusted = tour(README), {"CURL_CA_BUNDLE": str(certificate / "certificate.pem")}
            [printed] = follow_tour(steps, f"https://localhost:{port}", tmp_path, trusted)
            # Only the worker sends messages.
            wait_for(places[2] / "mail", "mary@concord.example", "welcome")
            for replica in (first, second):
                assert '"operation":' in replica.log_text()
    assert as_pattern(steps[0].printed or "").fullmatch(printed)
    code = str(machine / "prefix" / "lib")
    command = [*user, find_tool("find"), code, "-not", "-type", "l", "-writable"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b""  # noqa: S603 - a command of our own.


def test_the_dockerfile_follows_the_rules_of_hadolint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    run(str(hadolint), str(DEPLOY / "Dockerfile"))


def test_the_compose_file_is_valid() -> None:
    dclint = find_tool(str(ROOT / "tests/contract/node_modules/.bin/dclint"))
    # The proxy is there for everybody, so it publishes its ports on all interfaces.
    rule = "no-unbound-port-interfaces"
    run(dclint, str(DEPLOY / "compose.yaml"), "--quiet", "--disable-rule", rule)


def test_the_image_is_built_from_the_files_of_the_package_only() -> None:
    """Keys, backups and databases beside the code must not enter a layer of the image."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    needed = {
        *packed,
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements-all.txt",
        "requirements-build.txt",
    }
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == needed


@pytest.mark.parametrize("name", ["concord.service", "concord-worker.service"])
def test_the_units_are_valid_and_hardened(name: str, tmp_path: Path) -> None:
    analyze = find_tool("systemd-analyze")
    # The program that the unit starts is not installed here.
    unit = tmp_path / name
    text = (DEPLOY / "systemd" / name).read_text()
    unit.write_text(text.replace("/opt/concord/bin/concord", find_tool("true")))
    checked = subprocess.run(  # noqa: S603 - our own command.
        [analyze, "verify", str(unit)], capture_output=True, check=False, text=True
    )
    assert (checked.returncode, str(unit) in checked.stderr) == (0, False), checked.stderr
    rated = subprocess.run(  # noqa: S603 - our own command.
        [analyze, "security", "--offline=yes", "--no-pager", str(unit)],
        capture_output=True,
        check=True,
        text=True,
    )
    last = rated.stdout.splitlines()[-1]
    assert float(last.split(f"{name}: ")[1].split()[0]) <= EXPOSURE


def read_unit(name: str) -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read_string((DEPLOY / "systemd" / name).read_text())
    return unit


def test_the_units_share_files_and_restart_together() -> None:
    service, worker = read_unit("concord.service"), read_unit("concord-worker.service")
    for key in ("User", "DynamicUser", "StateDirectory", "WorkingDirectory", "Environment"):
        assert service["Service"][key] == worker["Service"][key], key
    # Systemd propagates stops and restarts with `PartOf`, and starts with `WantedBy`.
    assert worker["Unit"]["PartOf"] == "concord.service"
    assert "concord.service" in worker["Unit"]["After"].split()
    assert "concord.service" in worker["Install"]["WantedBy"].split()


def test_systemd_is_told_when_the_service_is_ready_and_stops(tmp_path: Path) -> None:
    name = f"concord-{os.getpid()}-{threading.get_ident()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports:
        reports.settimeout(60)
        reports.bind(f"\0{name}")
        with running_server(tmp_path, NOTIFY_SOCKET=f"@{name}", METRICS_PORT="0"):
            assert reports.recv(100).decode() == supervisor.READY
        assert reports.recv(100).decode() == supervisor.STOPPING


def test_compose_uses_settings_that_exist() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    settings = {name.upper() for name in Settings.model_fields}
    for service in ("concord", "worker", "migrate"):
        used = {name.removesuffix("_FILE") for name in services[service]["environment"]}
        assert used <= settings | {"SIGNING_KEY"}
        assert services[service]["read_only"]
        # Pictures are in a volume that all of them share.
        assert services[service]["volumes"] == ["files:/var/lib/concord"]
