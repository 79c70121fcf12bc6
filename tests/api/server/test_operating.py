"""Operation: private files, causes in the log, and clocks that differ."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from api.contract.engine_errors import InvalidToken
from api.credentials.access_tokens import Tokens
from api.credentials.signing import KeyRing
from models.access.session import NewSession
from models.identity.token import Token
from models.orders.order_list import OrderFilter
from models.orders.order_view import OrderView
from models.storage.base import utcnow
from models.storage.identifiers import new_id
from models.storage.page import Page
from models.storage.reader import Reader
from tests.api.accounts import fresh_address
from tests.api.clocks import Clock
from tests.databases import make_database_url
from tests.factories import fresh_email
from tests.live import APP
from tests.service import running

JSON = {"Content-Type": "application/json"}


@pytest.mark.mission("M20")
def test_files_of_the_service_are_private_to_its_owner(tmp_path: Path) -> None:
    subprocess.run(  # noqa: S603 - our own interpreter and file.
        [sys.executable, str(APP), "create-admin", "--email", fresh_email(), "--name", "Ada"],
        env={"PATH": os.environ["PATH"], "ADMIN_PASSWORD": "seven green bicycles"},
        cwd=tmp_path,
        umask=0o022,
        check=True,
    )
    # The file is private by itself: the folder may have been made by something else.
    kept = list((tmp_path / "var").iterdir())
    assert [path.name for path in kept] == ["concord.db"]
    for path in [tmp_path / "var", *kept]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.mission("M8")
def test_the_log_names_the_cause_of_a_503(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "letter.db"
    file.write_text("This is no database, but a letter of some length." * 100)
    with running(tmp_path, f"sqlite:///{file}") as service:
        answer = service.client().post(
            "/v1/users", json={"name": "Ada", "email": fresh_email()}, headers=fresh_address()
        )
    assert answer.status_code == 503
    assert "not a database" not in answer.text
    line = next(line for line in capfd.readouterr().err.splitlines() if "dependency failed" in line)
    assert "file is not a database" in line
    assert answer.headers["x-request-id"] in line


@pytest.mark.mission("M13")
def test_tokens_tolerate_a_small_clock_skew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyRing.load(tmp_path / "key.pem", create=True)
    tokens, clock = Tokens(keys, "http://concord.example"), Clock()
    session = Token(id=new_id(), user_id=1, scopes=["users:read"])
    session.expires_at = utcnow() + timedelta(days=1)
    grant = NewSession(session, "refresh token")
    monkeypatch.setattr("api.credentials.access_tokens.time", clock)
    clock.ahead = 20
    assert tokens.verify(tokens.issue(grant).access_token).user_id == 1
    clock.ahead = 60
    ahead = tokens.issue(grant).access_token
    clock.ahead = 0
    with pytest.raises(InvalidToken):
        tokens.verify(ahead)
    clock.ahead = -3600
    ended = tokens.issue(grant).access_token
    clock.ahead = 0
    with pytest.raises(InvalidToken):
        tokens.verify(ended)


@pytest.mark.mission("M17")
def test_probes_are_answered_while_every_thread_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_reader: Reader, _wanted: OrderFilter, **_options: object) -> Page[OrderView]:
        begun.set()
        go_on.wait(30)
        return Page([], None)

    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, THREADS="1", QUEUE="0") as service,
        ThreadPoolExecutor(1) as pool,
    ):
        user = service.user()
        monkeypatch.setattr("api.orders.find_orders", wait)
        busy = pool.submit(user.client.get, "/v1/orders")
        try:
            assert begun.wait(30)
            ready = service.client().get("/health/ready").status_code
            refused = user.client.get("/v1/orders").status_code
        finally:
            go_on.set()
        assert (ready, refused, busy.result().status_code) == (200, 503, 200)
