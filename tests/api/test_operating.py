"""What an operator sees and relies on: private files, causes in the log, clocks that differ."""

import json
import os
import select
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import Connection

from api.contract.errors import InvalidToken
from api.security import Tokens
from api.signing import KeyRing
from models.actor import Actor
from models.base import utcnow
from models.errors import NotFound
from models.identifiers import new_id
from models.session import Grant
from models.token import Token
from tests.api.accounts import fresh_address, fresh_email
from tests.api.clocks import Clock
from tests.api.uploads import upload
from tests.databases import make_database_url
from tests.live import APP
from tests.service import running

JSON = {"Content-Type": "application/json"}


@pytest.mark.mission("M20")
def test_what_the_service_keeps_is_its_owners_alone(tmp_path: Path) -> None:
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
def test_the_log_says_what_a_503_hides_from_the_client(
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


@pytest.mark.mission("M6")
def test_bodies_on_their_way_share_a_budget(tmp_path: Path) -> None:
    head = "POST /v1/users HTTP/1.1\nContent-Type: application/json\nContent-Length: 1024"
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, MAX_BODY_BYTES="1024") as service,
    ):
        with ExitStack() as stack:
            uploads = [stack.enter_context(upload(service, head)) for _ in range(9)]
            for each in uploads:
                each.send(b" " * 1000)
            # The nine would take more than eight bodies of the largest size: one is answered at
            # once, and the others when they are complete.
            [refused], _, _ = select.select([each.peer for each in uploads], [], [], 10)
            for each in uploads:
                if each.peer is refused:
                    assert each.answer().status == 503
                else:
                    each.send(b" " * 24)
                    assert each.answer().status == 422
        made = service.client().post(
            "/v1/users", content=json.dumps({"name": "Ada", "email": fresh_email()}), headers=JSON
        )
        assert made.status_code == 201


@pytest.mark.mission("M13")
def test_a_token_holds_where_the_clock_is_a_little_behind_and_no_longer_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyRing.load(tmp_path / "key.pem", create=True)
    tokens, clock = Tokens(keys, "http://concord.example"), Clock()
    session = Token(id=new_id(), user_id=1, scopes=["users:read"])
    session.expires_at = utcnow() + timedelta(days=1)
    grant = Grant(session, "refresh token")
    monkeypatch.setattr("api.security.time", clock)
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
def test_a_probe_is_answered_while_every_thread_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(connection: Connection, actor: Actor, user_id: int) -> NoReturn:
        del connection, actor, user_id
        begun.set()
        go_on.wait(30)
        raise NotFound

    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, THREADS="1", QUEUE="0") as service,
        ThreadPoolExecutor(1) as pool,
    ):
        user = service.user()
        monkeypatch.setattr("api.users.view_user", wait)
        busy = pool.submit(user.client.get, f"/v1/users/{user.id}")
        try:
            assert begun.wait(30)
            ready = service.client().get("/health/ready").status_code
            refused = user.client.get(f"/v1/users/{user.id}").status_code
        finally:
            go_on.set()
        assert (ready, refused, busy.result().status_code) == (200, 503, 404)
