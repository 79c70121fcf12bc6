"""Secrets that are sent everywhere come back nowhere: in no log, problem or table (TRUST 42).

Each canary is a text that nothing else holds. Real secrets are looked for as well: what the service
itself gives away once, such as refresh tokens and keys, and never needs to know again.
"""

import base64
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from models.storage.database import Database
from tests.api.sample_calls import operations
from tests.databases import KINDS, make_database_url
from tests.live import LiveServer, running_server
from tests.mailbox import link_in, wait_for

pytestmark = [pytest.mark.mission("M8"), pytest.mark.mission("M14"), pytest.mark.timeout(300)]

PASSWORD = "canary-password-brisk-otters"


@dataclass
class Witness:
    """Sends secrets, and keeps every answer that was not meant to hold them."""

    server: LiveServer
    database: Database
    secrets: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def canary(self, prefix: str = "canary") -> str:
        """A new secret."""
        secret = f"{prefix}{uuid.uuid4().hex}"
        self.secrets.append(secret)
        return secret

    def learn(self, *secrets: str) -> None:
        """From now on these are to be seen nowhere."""
        self.secrets += secrets

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:  # noqa: ANN401 - as httpx takes it.
        answer = httpx.request(method, self.server.url + path, timeout=30, **request)
        self.answers.append(f"{answer.headers}{answer.text}")
        return answer

    def stored(self) -> str:
        """Everything that the database holds, as text."""

        def dump(session: Session) -> str:
            connection = session.connection()
            rows = []
            for table in inspect(connection).get_table_names():
                found = connection.execute(text(f'SELECT * FROM "{table}"'))  # noqa: S608 - a name of ours.
                rows += [[_readable(value) for value in row] for row in found]
            return json.dumps(rows)

        return self.database.transact(dump, write=False)

    def found(self, *places: str) -> set[str]:
        """The secrets that are in one of these texts."""
        return {secret for secret in self.secrets for place in places if secret in place}


def _readable(value: object) -> str:
    if isinstance(value, bytes):
        return f"{value!r} {value.hex()} {base64.b32encode(value)!r} {base64.b64encode(value)!r}"
    return str(value)


@pytest.fixture(params=KINDS)
def witness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Witness]:
    with make_database_url(request.param, tmp_path) as url:
        key = tmp_path / "signing-key.pem"
        environment = {"APP_ENV": "development", "SIGNING_KEY_FILE": str(key), "LOG_LEVEL": "debug"}
        with running_server(tmp_path, DATABASE_URL=url, METRICS_PORT="0", **environment) as server:
            database = Database(url)
            try:
                yield Witness(server, database)
            finally:
                database.dispose()


def test_trust42_canaries_appear_nowhere(witness: Witness) -> None:
    for operation in operations():
        path = operation.path.format_map(_Canaries(witness))
        bearer = f"Bearer {witness.canary()}"
        body = json.dumps(
            {name: witness.canary() for name in operation.body or {}} | {"x": witness.canary()}
        )
        for headers, content in (
            ({"Authorization": bearer, "Cookie": witness.canary()}, body),
            ({"Authorization": witness.canary("Basic ")}, body[:-2]),
            ({"Content-Type": witness.canary("text/")}, witness.canary("\x00{")),
            ({"X-Request-ID": f"{witness.canary()} and a space"}, None),
        ):
            known = {"Content-Type": "application/json", **headers}
            query = {"cursor": witness.canary(), "limit": witness.canary()}
            witness.send(operation.method, path, headers=known, params=query, content=content)
    for place in (*witness.answers, witness.server.log_text(), witness.stored()):
        assert witness.found(place) == set()


def test_trust42_credentials_are_hashed_or_encrypted(witness: Witness) -> None:
    json_body = {"Content-Type": "application/json"}
    email = f"{uuid.uuid4().hex}@concord.example"
    witness.learn(PASSWORD)
    account = {"name": "Ada Lovelace", "email": email, "password": PASSWORD}
    assert witness.send("POST", "/v1/users", json=account).status_code == 201
    credentials = {"email": email, "password": PASSWORD}

    def post(path: str, body: Mapping[str, object], token: str = "") -> dict[str, Any]:
        """Ask for something whose answer may hold a secret."""
        headers = {**json_body, **({"Authorization": f"Bearer {token}"} if token else {})}
        url = witness.server.url + path
        return dict(httpx.post(url, json=body, headers=headers, timeout=30).json())

    mail = witness.server.log.parent / "var" / "mail"
    link = link_in(wait_for(mail, email, "welcome")).secret
    proofs = {"token": link, "current_password": PASSWORD}
    confirmation = "/v1/auth/email-verification/confirm"
    assert witness.send("POST", confirmation, json=proofs).status_code == 204
    first = post("/v1/auth/token", credentials)
    second = post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]})
    access = str(second["access_token"])
    key = post("/v1/tokens", {"name": "Export", "scopes": ["orders:read"]}, access)
    factor = post("/v1/profile/second-factor", {"current_password": PASSWORD}, access)
    app = pyotp.TOTP(factor["secret"])
    codes = post("/v1/profile/second-factor/confirm", {"code": app.now()}, access)
    waiting = post("/v1/auth/token", credentials)
    third = post(
        "/v1/auth/second-factor",
        {"challenge": waiting["challenge"], "code": codes["recovery_codes"][0]},
    )
    for signed_in in (first, second, third):
        witness.learn(signed_in["access_token"], signed_in["refresh_token"])
    witness.learn(
        link, key["key"], factor["secret"], waiting["challenge"], *codes["recovery_codes"]
    )
    witness.learn(*(code.replace("-", "") for code in codes["recovery_codes"]))
    # They are sent once more, where they are wrong.
    for secret in list(witness.secrets):
        witness.send("GET", "/v1/profile", headers={"Authorization": f"Basic {secret}"})
        witness.send("POST", "/v1/auth/token", json={"email": email, "password": secret})
    for path in ("/v1/audit-events", "/v1/tokens", "/v1/profile", "/v1/profile/second-factor"):
        got = witness.send(
            "GET", path, headers={"Authorization": f"Bearer {third['access_token']}"}
        )
        assert got.status_code == 200
    for place in (*witness.answers, witness.server.log_text(), witness.stored()):
        assert witness.found(place) == set()


class _Canaries(dict[str, str]):
    """A canary for each place in a path."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def __missing__(self, name: str) -> str:
        return self._witness.canary()
