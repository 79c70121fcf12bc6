"""The published keys, and a service whose keys change while it runs."""

import threading
import time
from pathlib import Path

import httpx
import jwt
import pytest

from api.credentials.key_rotation import rotate_keys
from tests.api.accounts import fresh_address
from tests.databases import make_database_url
from tests.factories import fresh_email
from tests.live import running_server
from tests.service import PASSWORD, Service, running

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M19")]

JWKS = "/.well-known/jwks.json"
ROTATIONS = 3
ASKERS = 3


def verified(key_set: object, token: str) -> dict[str, object]:
    """Verify a token as a program does that knows the service's address and nothing else."""
    assert isinstance(key_set, dict)
    key = jwt.PyJWKSet.from_dict(key_set)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, object] = jwt.decode(
        token, key, algorithms=["EdDSA"], options={"verify_aud": False}
    )
    return claims


def test_other_services_can_verify_a_token(service: Service) -> None:
    person = service.user()
    answer = service.client().get(JWKS)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert verified(answer.json(), person.token)["sub"] == str(person.id)
    forged = person.token[:-86] + ("A" if person.token[-86] != "A" else "B") + person.token[-85:]
    with pytest.raises(jwt.InvalidSignatureError):
        verified(answer.json(), forged)


def test_the_key_set_contains_no_secret(service: Service) -> None:
    [key] = service.client().get(JWKS).json()["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}


def test_the_etag_of_the_key_set_changes_with_it(fresh_service: Service) -> None:
    client = fresh_service.client()
    tag = client.get(JWKS).headers["etag"]
    assert client.get(JWKS, headers={"If-None-Match": tag}).status_code == 304
    rotate_keys(fresh_service.app.settings.signing_key_file)
    time.sleep(1.1)
    assert client.get(JWKS, headers={"If-None-Match": tag}).status_code == 200


def test_a_token_of_a_removed_key_is_refused(fresh_service: Service) -> None:
    person = fresh_service.user()
    file = fresh_service.app.settings.signing_key_file
    rotate_keys(file, compromised=True)
    time.sleep(1.1)
    # Nobody has shown this token before, as it would be if somebody else had signed it.
    assert person.client.get("/v1/profile").status_code == 401
    person.sign_in()
    assert person.client.get("/v1/profile").status_code == 200


def test_tokens_from_before_a_rotation_survive_a_restart(tmp_path: Path) -> None:
    with make_database_url("sqlite", tmp_path) as url:
        with running(tmp_path, url) as service:
            admin = service.admin()
            for number in range(2):
                price = {"amount": 100, "currency": "EUR"}
                product = {"sku": f"SKU-{number}", "name": "Mug", "price": price}
                assert admin.client.post("/v1/products", json=product).status_code == 201
            page = admin.client.get("/v1/products", params={"limit": 1}).json()
            headers = dict(admin.client.headers)
        rotate_keys(tmp_path / "signing-key.pem")
        with running(tmp_path, url) as service:
            client = service.client(Authorization=headers["authorization"])
            assert client.get("/v1/profile").status_code == 200
            rest = client.get("/v1/products", params={"limit": 1, "cursor": page["next_cursor"]})
            assert len(rest.json()["items"]) == 1


class Asker(threading.Thread):
    """Asks for a profile again and again, each time on a connection of its own."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__()
        self._url = url
        self.token = token
        self.answers: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.wait(0.02):
            self.answers.append(ask(self._url, self.token))


def ask(url: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}", **fresh_address()}
    return httpx.get(f"{url}/v1/profile", headers=headers, timeout=30).status_code


def sign_in(url: str, email: str) -> str:
    answer = httpx.post(
        f"{url}/v1/auth/token",
        json={"email": email, "password": PASSWORD},
        headers=fresh_address(),
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@pytest.mark.timeout(180)
def test_rotation_under_load_signs_nobody_out(tmp_path: Path) -> None:
    settings = {
        "APP_ENV": "test",
        "WORKERS": "2",
        "METRICS_PORT": "0",
        "SIGNING_KEY_FILE": str(tmp_path / "signing-key.pem"),
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with running_server(tmp_path, **settings) as server:
        emails = [fresh_email() for _ in range(ROTATIONS + 1)]
        for email in emails:
            body = {"name": "Ada", "email": email, "password": PASSWORD}
            made = httpx.post(f"{server.url}/v1/users", json=body, headers=fresh_address())
            assert made.status_code == 201, made.text
        tokens = [sign_in(server.url, emails[0])]
        askers = [Asker(server.url, tokens[0]) for _ in range(ASKERS)]
        for asker in askers:
            asker.start()
        try:
            for email in emails[1:]:
                new = server.command("rotate-key").split()[1]
                until = time.monotonic() + 10
                while kid(token := sign_in(server.url, email)) != new:
                    assert time.monotonic() < until
                # The other process meets the key for the first time, in most of these.
                assert {ask(server.url, token) for _ in range(10)} == {200}
                tokens.append(token)
                for asker in askers:
                    asker.token = token
        finally:
            for asker in askers:
                asker.enough.set()
                asker.join()
        assert all(asker.answers and set(asker.answers) == {200} for asker in askers)
        # Whatever was signed on the way is good in both processes.
        assert {ask(server.url, token) for token in tokens for _ in range(10)} == {200}
        shown = httpx.get(f"{server.url}{JWKS}").json()
        assert [key["kid"] for key in shown["keys"]] == [kid(each) for each in reversed(tokens)]
        for token in tokens:
            assert verified(shown, token)
        log = server.log_text()
    assert "PRIVATE" not in log
