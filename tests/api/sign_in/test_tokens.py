"""Invalid tokens, all refused in the same way (RFC 6750, RFC 8725, RFC 9068)."""

import base64

import httpx
import pytest

from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.answers import comparable, problem
from tests.api.forged_tokens import FORGED
from tests.api.token_forger import Forger
from tests.factories import make_account
from tests.service import Service

pytestmark = pytest.mark.mission("M12")

PATH = "/v1/profile"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture(scope="module")
def forger(service: Service) -> Forger:
    return Forger(service, make_account(service))


def test_the_forgers_unchanged_tokens_are_valid(client: httpx.Client, forger: Forger) -> None:
    assert (
        client.get(PATH, headers=bearer(forger.signed()) | fresh_address()).json()["id"]
        == forger.user.id
    )


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused_like_any_invalid_token(
    client: httpx.Client, forger: Forger, name: str
) -> None:
    refused = client.get(PATH, headers=bearer("not.a.token") | fresh_address())
    answer = client.get(PATH, headers=bearer(FORGED[name](forger)) | fresh_address())
    assert answer.status_code == 401
    assert comparable(answer) == comparable(refused)
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert problem(answer) == "not-authenticated"


@pytest.mark.parametrize("part", ["header", "claims", "signature"])
def test_no_bit_of_a_token_can_be_flipped(client: httpx.Client, forger: Forger, part: str) -> None:
    token = forger.signed()
    start = ("header", "claims", "signature").index(part)
    parts = token.split(".")
    places = range(len(parts[start]))
    # Every bit of the last character, where base64 has bits that stand for nothing, and one bit
    # of each other character.
    flips = [(place, place % 6) for place in places] + [(len(places) - 1, bit) for bit in range(6)]
    for place, bit in flips:
        letter = ALPHABET[ALPHABET.index(parts[start][place]) ^ 1 << bit]
        flipped = parts[start][:place] + letter + parts[start][place + 1 :]
        forged = ".".join([*parts[:start], flipped, *parts[start + 1 :]])
        answer = client.get(PATH, headers=bearer(forged) | fresh_address())
        assert answer.status_code == 401, f"bit {bit} of character {place}"


@pytest.mark.parametrize(
    "credentials",
    [
        b"",
        b"Bearer",
        b"Basic dXNlcjpwYXNz",
        b"Digest username=x",
        b"Negotiate abc",
        b"Token %s",
        b"JWT %s",
        b"%s",
        b"Bearer%s",
        b"Bearer:%s",
        b"Bearer=%s",
        b"Bearer\t%s",
        b"Basic Bearer %s",
        b"B\xc3\xa9arer %s",
        b"Bearer \xff\xfe",
        b"Bearer \xed\xa0\x80",
        "Bearer ａｂｃ.ａｂｃ.ａｂｃ".encode(),  # noqa: RUF001 - the letters are meant to be wide.
        b"\xe2\x80\x8bBearer %s",
        b"Bearer %s\xc2\xa0",
        b"Bearer \xc2\xa0%s",
    ],
)
def test_other_kinds_of_tokens_are_not_access_tokens(
    client: httpx.Client, forger: Forger, credentials: bytes
) -> None:
    value = credentials.replace(b"%s", forger.signed().encode())
    (address,) = fresh_address().items()
    here = (address[0].encode(), address[1].encode())
    answer = client.get(PATH, headers=[(b"Authorization", value), here])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["cache-control"] == "no-store"
    assert problem(answer) == "not-authenticated"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_case_of_the_scheme_does_not_matter(
    client: httpx.Client, forger: Forger, scheme: str
) -> None:
    good = {"Authorization": f"{scheme} {forger.signed()}"}
    forged = {"Authorization": f"{scheme} {forger.signed_by_stranger()}"}
    assert client.get(PATH, headers=good | fresh_address()).status_code == 200
    assert client.get(PATH, headers=forged | fresh_address()).status_code == 401


def test_two_authorization_headers_are_refused(
    service: Service, client: httpx.Client, forger: Forger
) -> None:
    other = token_for(service, make_account(service))
    for first, second in ((forger.signed(), other), ("x", other), (other, "x"), (other, other)):
        headers = [("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")]
        answer = client.get(PATH, headers=headers)
        assert answer.status_code == 400
        assert problem(answer) == "malformed-request"


def test_a_token_is_read_from_the_header_only(client: httpx.Client, forger: Forger) -> None:
    token = forger.signed()
    assert client.get(PATH, params={"access_token": token}).status_code == 401
    assert client.get(PATH, headers={"Cookie": f"access_token={token}"}).status_code == 401
    assert client.get(PATH, headers={"Proxy-Authorization": f"Bearer {token}"}).status_code == 401
    assert client.get(PATH, headers={"X-Authorization": f"Bearer {token}"}).status_code == 401
    basic = base64.b64encode(f"{token}:".encode()).decode()
    assert client.get(PATH, headers={"Authorization": f"Basic {basic}"}).status_code == 401


def test_a_token_allows_exactly_its_scopes(client: httpx.Client, forger: Forger) -> None:
    for scope in ("users:read", "profile", "profile:readx", "profile:read,x", "PROFILE:READ", "x"):
        claims = forger.claims(scope=scope)
        answer = client.get(PATH, headers=bearer(forger.signed(claims=claims)) | fresh_address())
        assert answer.status_code == 403
        assert problem(answer) == "not-permitted"


def test_a_scope_of_another_role_gives_no_other_rights(
    service: Service, client: httpx.Client, forger: Forger
) -> None:
    other = make_account(service)
    claims = forger.claims(scope="users:read users:write profile:write", role="admin")
    headers = bearer(forger.signed(claims=claims))
    assert client.get(f"/v1/users/{other.id}", headers=headers).status_code == 404
    raised = client.patch(f"/v1/users/{forger.user.id}", json={"role": "admin"}, headers=headers)
    assert raised.status_code == 403
