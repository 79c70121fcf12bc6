"""A new key signs, old keys still verify, and secrets stay: nobody notices a rotation."""

import logging
import multiprocessing
import os
import re
import stat
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from api.credentials.access_tokens import TOKEN_LIFETIME
from api.credentials.key_file import MAX_KEYS, VERIFYING_SECONDS, SigningKeyError
from api.credentials.key_rotation import rotate_keys
from api.credentials.signing import KeyRing
from tests.api.clocks import Clock
from tests.api.commands import Run, failure, make_run

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M19")]

PRODUCTION = {"APP_ENV": "production", "DATABASE_URL": "sqlite:///a.db"}
PROCESSES = 3
RACES = 8


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one key, as the first run makes it."""
    path = tmp_path / "signing-key.pem"
    KeyRing.load(path, create=True)
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of everything that has to do with keys."""
    clock = Clock()
    for module in (
        "api.credentials.key_file",
        "api.credentials.key_rotation",
        "api.credentials.signing",
    ):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


def kids(ring: KeyRing) -> list[str]:
    """The ids of the keys that everybody can see."""
    return [key["kid"] for key in ring.jwks()]


def test_the_new_key_signs_and_the_old_one_verifies(file: Path) -> None:
    before = KeyRing.load(file, create=False)
    old = before.signing
    new = rotate_keys(file)
    after = KeyRing.load(file, create=False)
    assert after.signing.id == new != old.id
    assert after.find(new) == after.signing.public
    assert after.find(old.id) == old.public
    assert kids(after) == [new, old.id]
    assert after.derive("cursors") == before.derive("cursors")


def test_running_processes_sign_with_the_new_key_within_a_second(file: Path, clock: Clock) -> None:
    ring = KeyRing.load(file, create=False)
    old = ring.signing.id
    new = rotate_keys(file)
    assert ring.signing.id == old
    clock.ahead = 1
    assert ring.signing.id == new
    assert kids(ring) == [new, old]


def test_an_unknown_key_is_looked_up_at_once(file: Path) -> None:
    ring = KeyRing.load(file, create=False)
    for _ in range(3):
        new = rotate_keys(file)
        assert ring.find(new) == KeyRing.load(file, create=False).signing.public
    assert ring.find("nobody") is None


def test_a_retired_key_verifies_until_its_last_token_expires(file: Path, clock: Clock) -> None:
    assert VERIFYING_SECONDS >= TOKEN_LIFETIME + 30
    ring = KeyRing.load(file, create=False)
    old, secret = ring.signing.id, ring.derive("cursors")
    new = rotate_keys(file)
    clock.ahead = VERIFYING_SECONDS - 5
    assert ring.find(old) is not None
    assert kids(ring) == [new, old]
    clock.ahead = VERIFYING_SECONDS + 1
    assert ring.find(old) is None
    assert kids(ring) == [new]
    assert ring.derive("cursors") == secret


def test_unused_keys_leave_the_file_except_the_last_one(file: Path, clock: Clock) -> None:
    ring = KeyRing.load(file, create=False)
    secret = ring.derive("cursors")
    second, third = rotate_keys(file), rotate_keys(file)
    assert file.read_bytes().count(b"-----BEGIN ") == 3
    clock.ahead = VERIFYING_SECONDS + 1
    fourth = rotate_keys(file)
    assert kids(KeyRing.load(file, create=False)) == [fourth, third]
    assert file.read_bytes().count(b"-----BEGIN ") == 3
    assert ring.find(second) is None
    assert KeyRing.load(file, create=False).derive("cursors") == secret


def test_removed_keys_make_room_for_new_ones(file: Path, clock: Clock) -> None:
    for _ in range(MAX_KEYS - 1):
        rotate_keys(file)
    before = file.read_bytes()
    with pytest.raises(SigningKeyError, match=f"more than {MAX_KEYS} keys"):
        rotate_keys(file)
    assert file.read_bytes() == before
    clock.ahead = VERIFYING_SECONDS + 1
    rotate_keys(file)
    assert file.read_bytes().count(b"-----BEGIN ") == 3


def test_a_key_can_be_published_before_it_signs(file: Path, clock: Clock) -> None:
    ring = KeyRing.load(file, create=False)
    old = ring.signing.id
    new = rotate_keys(file, delay=600)
    clock.ahead = 590
    assert kids(ring) == [new, old]
    assert ring.signing.id == old
    clock.ahead = 601
    assert ring.signing.id == new
    clock.ahead = 590 + VERIFYING_SECONDS
    assert ring.find(old) is not None


def test_a_waiting_key_can_be_overtaken(file: Path) -> None:
    rotate_keys(file, delay=600)
    new = rotate_keys(file)
    assert KeyRing.load(file, create=False).signing.id == new


def test_compromised_keys_verify_nothing(file: Path, clock: Clock) -> None:
    ring = KeyRing.load(file, create=False)
    secret = ring.derive("cursors")
    rotate_keys(file)
    new = rotate_keys(file, compromised=True)
    clock.ahead = 1
    assert kids(ring) == [new]
    assert ring.signing.id == new
    assert ring.derive("cursors") == secret


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400])
def test_rotation_keeps_the_permissions_of_the_file(file: Path, mode: int) -> None:
    file.chmod(mode)
    before = os.umask(0)
    try:
        rotate_keys(file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == mode & 0o640
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody")
def test_rotation_by_root_keeps_the_owner_of_the_file(file: Path) -> None:
    os.chown(file, 4321, 1234)
    rotate_keys(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (4321, 1234)


def test_the_file_can_be_a_symbolic_link(file: Path) -> None:
    link = file.parent / "link.pem"
    link.symlink_to(file)
    new = rotate_keys(link)
    assert link.is_symlink()
    assert KeyRing.load(file, create=False).signing.id == new


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_foreign_content_of_the_file_is_kept(file: Path, newline: bytes) -> None:
    note = b"The key of 2026." + newline
    old = KeyRing.load(file, create=False).signing.id
    file.write_bytes(note + file.read_bytes().replace(b"\n", newline))
    rotate_keys(file)
    rotate_keys(file)
    assert note + b"Retired: " in file.read_bytes()
    assert kids(KeyRing.load(file, create=False))[-1] == old


def test_a_manually_assembled_file_can_be_rotated(file: Path) -> None:
    old = KeyRing.load(file, create=False).signing.id
    other = file.parent / "other.pem"
    by_hand = KeyRing.load(other, create=True).signing.id
    file.write_bytes(other.read_bytes() + file.read_bytes().rstrip())
    ring = KeyRing.load(file, create=False)
    assert ring.signing.id == by_hand
    new = rotate_keys(file)
    assert kids(KeyRing.load(file, create=False)) == [new, by_hand, old]
    assert file.read_bytes().count(b"Retired: ") == 2


def make_another(file: Path) -> Path:
    file.unlink()
    KeyRing.load(file, create=True)
    return file


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "without its root": lambda file: file.write_bytes(file.read_bytes().partition(b"Retired")[0]),
    "gone": lambda file: file.unlink(),
    "another": lambda file: rotate_keys(make_another(file)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_changes_nothing_and_is_reported_once(
    file: Path, clock: Clock, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    ring = KeyRing.load(file, create=False)
    old = ring.signing.id
    new = rotate_keys(file)
    good = file.read_bytes()
    BROKEN[kind](file)
    for clock.ahead in range(1, 5):
        assert ring.signing.id == old
        assert ring.find(new) is None
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.startswith("signing keys not reloaded: SIGNING_KEY_FILE ")
    assert not any(
        secret in line for secret in re.findall(r"(?m)^[A-Za-z0-9+/=]{8,}$", good.decode())
    )
    file.write_bytes(good)
    assert ring.find(new) is not None
    clock.ahead = 6
    assert ring.signing.id == new


def _rotate_all(file: Path, barrier: Barrier) -> list[str]:
    made = []
    for _ in range(RACES):
        barrier.wait(30)
        made.append(rotate_keys(file))
    return made


def test_concurrent_rotations_lose_no_key(file: Path) -> None:
    ring = KeyRing.load(file, create=False)
    root = ring.signing.id
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(PROCESSES)
        with context.Pool(PROCESSES) as pool:
            made = pool.starmap_async(_rotate_all, [(file, barrier)] * PROCESSES, chunksize=1)
            # Whoever reads meanwhile always finds a whole file.
            while not made.ready():
                assert ring.find("nobody") is None
                assert KeyRing.load(file, create=False).find(root) is not None
    everything = {kid for each in made.get() for kid in each}
    assert len(everything) == PROCESSES * RACES
    assert set(kids(KeyRing.load(file, create=False))) == everything | {root}
    assert all(ring.find(each) for each in everything)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_failed_rotation_leaves_nothing_behind(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("api.credentials.key_rotation.os.fsync", fail)
    with pytest.raises(SigningKeyError, match="cannot be replaced: No space left on device"):
        rotate_keys(file)
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(tmp_path, monkeypatch)


@pytest.mark.parametrize("environment", [{}, {"APP_ENV": "test"}, PRODUCTION])
def test_the_command_rotates_and_names_the_new_key(
    run: Run, file: Path, environment: dict[str, str]
) -> None:
    result = run("rotate-key", SIGNING_KEY_FILE=str(file), **environment)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Key {KeyRing.load(file, create=False).signing.id} made.\n"
    assert "PRIVATE" not in result.output


def test_the_command_accepts_only_one_of_wait_and_distrust(run: Run, file: Path) -> None:
    settings = {"SIGNING_KEY_FILE": str(file)}
    old = KeyRing.load(file, create=False).signing.id
    assert run("rotate-key", "--delay", "600", **settings).exit_code == 0
    assert KeyRing.load(file, create=False).signing.id == old
    assert run("rotate-key", "--compromised", **settings).exit_code == 0
    assert KeyRing.load(file, create=False).find(old) is None
    [line] = failure(run("rotate-key", "--compromised", "--delay", "5", **settings))
    assert "--delay" in line


def test_rotation_requires_an_existing_key(run: Run, tmp_path: Path) -> None:
    [line] = failure(run("rotate-key", SIGNING_KEY_FILE=str(tmp_path / "missing.pem")))
    assert line == "SIGNING_KEY_FILE cannot be read: No such file or directory"
    (tmp_path / "letter.pem").write_text("hunter2")
    [line] = failure(run("rotate-key", SIGNING_KEY_FILE=str(tmp_path / "letter.pem")))
    assert line == "SIGNING_KEY_FILE contains no unencrypted PEM private key"
