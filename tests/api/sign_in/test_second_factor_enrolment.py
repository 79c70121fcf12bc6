"""Enrolling an authenticator: its secret as text and as an image, and its confirmation."""

import base64
import re
import struct
import zlib
from pathlib import Path

import httpx
import pyotp
import pytest
import zxingcpp

from tests.api.accounts import edit_account, token_for
from tests.api.answers import problem
from tests.api.authenticators import (
    SecondFactorClock,
    begin,
    confirm,
    disable,
    enrol,
    enrolled,
    replace_codes,
    state,
)
from tests.authenticator import Authenticator
from tests.databases import make_database_url
from tests.factories import make_account
from tests.service import Service, running

pytestmark = [pytest.mark.mission("M12"), pytest.mark.mission("M13")]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SecondFactorClock:
    return SecondFactorClock(monkeypatch)


def test_an_enrolment_returns_everything_an_app_needs(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service, email="zoë+orders/2@concord.example", verified=True)
    told = enrol(client, token_for(service, user))
    assert told.headers["cache-control"] == "no-store"
    uri = told.json()["otpauth_uri"]
    parsed = pyotp.parse_uri(uri)
    assert isinstance(parsed, pyotp.TOTP)
    assert (parsed.name, parsed.issuer) == (user.email, "concord.example")
    assert (parsed.secret, parsed.digits, parsed.interval) == (told.json()["secret"], 6, 30)
    assert len(base64.b32decode(parsed.secret)) == 20
    assert read_qr_code(told.json()["qr_code"]) == uri


def test_services_below_one_host_have_different_issuers(tmp_path: Path) -> None:
    public = {"PUBLIC_URL": "https://shop.example:8443/eu"}
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, **public) as service,
        service.client() as client,
    ):
        told = enrol(client, token_for(service, make_account(service, verified=True)))
    parsed = pyotp.parse_uri(told.json()["otpauth_uri"])
    assert parsed.issuer == "shop.example 8443/eu"


@pytest.mark.parametrize(
    "email",
    [
        "a" * 64 + "@" + ".".join(["b" * 63, "c" * 63, "d" * 58]) + ".eu",
        "é" * 32 + "@" + ".".join(["ü" * 20] * 4) + ".eu",
    ],
    ids=["ascii", "encoded"],
)
def test_the_longest_address_fits_into_the_qr_code(
    service: Service, client: httpx.Client, email: str
) -> None:
    told = enrol(client, token_for(service, make_account(service, email=email, verified=True)))
    assert told.status_code == 200, told.text
    assert read_qr_code(told.json()["qr_code"]) == told.json()["otpauth_uri"]


def read_qr_code(uri: str) -> str:
    """Read the image of a data URI as the camera of a telephone does."""
    image = base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)
    assert image.startswith(b"\x89PNG")
    width, height, depth, colours = struct.unpack(">IIBB", image[16:26])
    # One bit a pixel, black or white; a row is as it is (0), or what differs from the last one (2).
    assert (depth, colours) == (1, 0)
    packed = zlib.decompress(b"".join(re.findall(rb"IDAT(.*)....\0\0\0\0IEND", image, re.DOTALL)))
    length = (width + 7) // 8
    row, pixels = bytes(length), b""
    for start in range(0, len(packed), length + 1):
        sent = packed[start + 1 : start + 1 + length]
        above = {0: bytes(length), 2: row}[packed[start]]
        row = bytes((one + other) % 256 for one, other in zip(sent, above, strict=True))
        bits = f"{int.from_bytes(row):0{8 * length}b}"[:width]
        pixels += bytes(255 * int(bit) for bit in bits)
    picture = memoryview(pixels).cast("B", (height, width))
    [code] = zxingcpp.read_barcodes(
        picture, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
    )
    return str(code.text)


def test_a_second_factor_requires_a_verified_address(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service)
    token = token_for(service, user)
    # One that an earlier release let begin is not confirmed either.
    app = enrolled(service, user, confirmed=False)
    edit_account(service, user.id, lambda _, row: setattr(row, "email_verified", False))
    for answer in (enrol(client, token), confirm(client, token, app.code())):
        assert (answer.status_code, problem(answer)) == (409, "email-unverified")
    assert not state(client, token)["active"]

    edit_account(service, user.id, lambda session, row: row.verify_email(session))
    app = Authenticator(enrol(client, token).json()["secret"])
    assert confirm(client, token, app.code()).status_code == 200


def test_enrolling_again_replaces_an_unconfirmed_secret(
    service: Service, client: httpx.Client
) -> None:
    _, token, first = begin(service, client)
    second = Authenticator(enrol(client, token).json()["secret"])
    assert first.secret != second.secret
    assert problem(confirm(client, token, first.code())) == "wrong-code"
    assert confirm(client, token, second.code()).status_code == 200
    for answer in (enrol(client, token), confirm(client, token, second.code(steps=1))):
        assert answer.status_code == 409
        assert problem(answer) == "second-factor-active"


def test_changes_require_an_enrolled_second_factor(service: Service, client: httpx.Client) -> None:
    token = token_for(service, make_account(service, verified=True))
    for answer in (
        confirm(client, token, "123456"),
        replace_codes(client, token, "123456"),
        disable(client, token, "123456"),
    ):
        assert answer.status_code == 409
        assert problem(answer) == "second-factor-inactive"


def test_an_unconfirmed_app_cannot_be_disabled(service: Service, client: httpx.Client) -> None:
    _, token, app = begin(service, client)
    assert problem(disable(client, token, app.code())) == "second-factor-inactive"


def test_a_recovery_code_does_not_confirm_an_app(service: Service, client: httpx.Client) -> None:
    _, token, _ = begin(service, client)
    answer = confirm(client, token, "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa")
    assert problem(answer) == "invalid-body"
