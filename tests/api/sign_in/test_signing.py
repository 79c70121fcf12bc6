"""The signing key: created if it is missing, never revealed, and always Ed25519."""

import base64
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.synchronize import Barrier
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from api.credentials.key_file import MAX_KEYS, SigningKeyError
from api.credentials.key_rotation import make_key_file
from api.credentials.signing import KeyRing
from tests.api.accounts import bearer, token_for
from tests.databases import make_database_url
from tests.factories import make_account
from tests.live import APP, running_server
from tests.service import running

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M19")]

RETIRED = b"Retired: 2026-11-25T10:00:00Z\n"
PROCESSES = 3
RACES = 20


def _pem(
    key: ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | x25519.X25519PrivateKey
    | rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | dsa.DSAPrivateKey,
    *,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encoding: Encoding = Encoding.PEM,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(encoding, form, encryption or NoEncryption())


def _ed25519() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def _on_an_unknown_curve() -> bytes:
    """A key on a curve that nobody supports, as many that are too weak today."""
    key = _pem(ec.generate_private_key(ec.SECP256R1()), encoding=Encoding.DER)
    # The last number of the curve's object identifier: 1.2.840.10045.3.1.7 is P-256.
    octets = key.replace(b"\xce\x3d\x03\x01\x07", b"\xce\x3d\x03\x01\x63")
    text = base64.encodebytes(octets)
    return b"-----BEGIN PRIVATE KEY-----\n" + text + b"-----END PRIVATE KEY-----\n"


WRONG: Mapping[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no PEM": lambda: b"hunter2-s3cret",
    "not text": lambda: bytes(range(256)),
    "RSA": lambda: _pem(rsa.generate_private_key(65537, 2048)),
    "P-256": lambda: _pem(ec.generate_private_key(ec.SECP256R1())),
    "P-256 in SEC 1": lambda: _pem(
        ec.generate_private_key(ec.SECP256R1()), form=PrivateFormat.TraditionalOpenSSL
    ),
    "unknown curve": _on_an_unknown_curve,
    "Ed448": lambda: _pem(ed448.Ed448PrivateKey.generate()),
    "X25519": lambda: _pem(x25519.X25519PrivateKey.generate()),
    "encrypted": lambda: _pem(_ed25519(), encryption=BestAvailableEncryption(b"hunter2-s3cret")),
    "OpenSSH": lambda: _pem(_ed25519(), form=PrivateFormat.OpenSSH),
    "DER": lambda: _pem(_ed25519(), encoding=Encoding.DER),
    "raw": lambda: _ed25519().private_bytes_raw(),
    "public": lambda: (
        _ed25519().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "cut short": lambda: _pem(_ed25519())[:-40],
    "another key cut short": lambda: _pem(_ed25519()) + _pem(_ed25519())[:-40],
    "another kind beside it": lambda: _pem(_ed25519()) + _pem(ed448.Ed448PrivateKey.generate()),
    "another algorithm's name": lambda: _pem(_ed25519()).replace(b"PRIVATE", b"EC PRIVATE"),
    "no line of its own": lambda: b"hunter2: " + _pem(_ed25519()),
    "a key twice": lambda: 2 * _pem(_ed25519()),
    "too many": lambda: b"".join(_pem(_ed25519()) for _ in range(MAX_KEYS + 1)),
    "retired": lambda: RETIRED + _pem(_ed25519()),
    "retired at no time": lambda: _pem(_ed25519()) + b"Retired: hunter2\n" + _pem(_ed25519()),
    "retired at two times": lambda: _pem(_ed25519()) + 2 * RETIRED + _pem(_ed25519()),
}


def test_a_key_is_created_on_the_first_start_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "var" / "keys" / "signing-key.pem"
    made = KeyRing.load(file, create=True).signing
    assert KeyRing.load(file, create=True).signing.id == made.id
    assert KeyRing.load(file, create=False).signing.id == made.id
    # Nothing is left beside it.
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_can_read_the_key(tmp_path: Path, umask: int) -> None:
    file = tmp_path / "signing-key.pem"
    before = os.umask(umask)
    try:
        KeyRing.load(file, create=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_installation_has_its_own_key_and_secrets(tmp_path: Path) -> None:
    first = KeyRing.load(tmp_path / "first.pem", create=True)
    second = KeyRing.load(tmp_path / "second.pem", create=True)
    assert first.signing.id != second.signing.id
    assert first.derive("cursors") != second.derive("cursors")
    assert first.derive("cursors") != first.derive("something else")
    assert first.derive("cursors") == KeyRing.load(tmp_path / "first.pem", create=False).derive(
        "cursors"
    )


def test_the_key_has_no_readable_representation(tmp_path: Path) -> None:
    key = KeyRing.load(tmp_path / "signing-key.pem", create=True).signing
    assert key.private.private_bytes_raw().hex() not in repr(key)
    assert "private" not in repr(key)


def _load_all(folder: Path, barrier: Barrier) -> list[str]:
    ids = []
    for race in range(RACES):
        barrier.wait(30)
        ids.append(KeyRing.load(folder / f"{race}.pem", create=True).signing.id)
    return ids


def test_processes_that_start_together_share_a_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(PROCESSES)
        with context.Pool(PROCESSES) as pool:
            ids = pool.starmap(_load_all, [(tmp_path, barrier)] * PROCESSES, chunksize=1)
    assert all(each == ids[0] for each in ids)
    assert len(set(ids[0])) == RACES
    assert len(list(tmp_path.iterdir())) == RACES


@pytest.mark.parametrize("kind", WRONG)
def test_a_key_of_another_kind_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "signing-key.pem"
    content = WRONG[kind]()
    file.write_bytes(content)
    with pytest.raises(SigningKeyError) as refused:
        KeyRing.load(file, create=True)
    (line,) = str(refused.value).splitlines()
    assert line.startswith("SIGNING_KEY_FILE ")
    assert "hunter2" not in line
    # What somebody put there is not replaced.
    assert file.read_bytes() == content


def test_an_unreadable_key_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for file in (tmp_path, tmp_path / "missing.pem", tmp_path / "dangling"):
        with pytest.raises(SigningKeyError, match=r"\ASIGNING_KEY_FILE cannot be read: .+\Z"):
            KeyRing.load(file, create=False)


def test_an_invalid_key_prevents_the_start(tmp_path: Path) -> None:
    file = tmp_path / "signing-key.pem"
    file.write_bytes(WRONG["RSA"]())
    finished = _serve(tmp_path, SIGNING_KEY_FILE=str(file))
    assert finished.returncode not in (0, None)
    (line,) = finished.stderr.decode().splitlines()
    assert line.startswith("concord: SIGNING_KEY_FILE ")


def test_production_creates_no_key(tmp_path: Path) -> None:
    file = tmp_path / "signing-key.pem"
    finished = _serve(tmp_path, APP_ENV="production", SIGNING_KEY_FILE=str(file))
    assert finished.returncode not in (0, None)
    (line,) = finished.stderr.decode().splitlines()
    assert line.startswith("concord: SIGNING_KEY_FILE ")
    assert not file.exists()


def test_production_refuses_a_key_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    make_key_file(file)
    file.chmod(0o604)
    finished = _serve(tmp_path, APP_ENV="production", SIGNING_KEY_FILE=str(file))
    assert finished.returncode == 1
    assert b"concord: SIGNING_KEY_FILE has the mode 604" in finished.stderr


def test_development_warns_of_a_key_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    make_key_file(file)
    for mode, warned in ((0o600, False), (0o644, True)):
        file.chmod(mode)
        with running_server(tmp_path, SIGNING_KEY_FILE=str(file), METRICS_PORT="0") as server:
            pass
        assert ("SIGNING_KEY_FILE has the mode 644" in server.log_text()) is warned


def _serve(folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - our own interpreter and file.
        [sys.executable, str(APP), "serve"],
        env={"PORT": "0", "DATABASE_URL": f"sqlite:///{folder / 'concord.db'}", **environment},
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_restart_signs_nobody_out(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        with running(tmp_path, url) as service:
            headers = bearer(token_for(service, make_account(service)))
        with running(tmp_path, url) as service:
            assert httpx.get(f"{service.url}/v1/profile", headers=headers).status_code == 200


def test_a_different_key_ends_every_token(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        with running(tmp_path, url) as service:
            headers = bearer(token_for(service, make_account(service)))
        service.app.settings.signing_key_file.unlink()
        with running(tmp_path, url) as service:
            assert httpx.get(f"{service.url}/v1/profile", headers=headers).status_code == 401
