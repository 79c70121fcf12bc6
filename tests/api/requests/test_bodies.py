"""Bodies that are absent, of another type, not JSON or invalid; errors never repeat them (M10)."""

import json

import httpx
import pytest

from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.answers import problem
from tests.api.uploads import upload
from tests.factories import fresh_email, make_account
from tests.service import Service

pytestmark = pytest.mark.mission("M10")

USERS = "/v1/users"
JSON_TYPE = {"Content-Type": "application/json"}
ACCEPT_PATCH = "application/json, application/merge-patch+json"


def post(client: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    headers = {**JSON_TYPE, **fresh_address(), **fields}
    return client.post(USERS, content=content, headers=headers)


def faults(answer: httpx.Response) -> list[tuple[str, str]]:
    """Pointer and code of each fault that a problem lists."""
    assert answer.status_code == 422, answer.text
    assert problem(answer) == "invalid-body"
    assert "CANARY" not in answer.text
    listed = answer.json()["errors"]
    assert all(set(error) == {"pointer", "code", "message"} for error in listed)
    assert all(error["message"] for error in listed)
    return [(error["pointer"], error["code"]) for error in listed]


def person(**members: object) -> bytes:
    return json.dumps({"name": "Ada", "email": fresh_email(), **members}).encode()


@pytest.mark.parametrize("path", [USERS, "/v1/auth/token"])
def test_a_missing_body_is_unprocessable(client: httpx.Client, path: str) -> None:
    for headers in ({}, JSON_TYPE, {"Content-Length": "0"}):
        answer = client.post(path, headers={**headers, **fresh_address()})
        assert faults(answer) == [("", "required")]


@pytest.mark.parametrize(
    "text",
    [b"CANARY", b'{"CANARY"', b"{'name':1}", b'{"CANARY":1,"CANARY":2}', b"\xff", b" ", b"NaN"],
)
def test_invalid_json_is_unprocessable(client: httpx.Client, text: bytes) -> None:
    assert faults(post(client, text)) == [("", "json")]


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("application/x-www-form-urlencoded", b"name=CANARY"),
        ("multipart/form-data; boundary=b", b"--b\r\nCANARY\r\n--b--\r\n"),
        ("application/xml", b"<CANARY/>"),
        ("application/octet-stream", b"\xffCANARY"),
        *(
            (media_type, person())
            for media_type in (
                *("", "text/plain", "text/plain; charset=utf-8", "application/problem+json"),
                *("json", "*/*", "application/jsonCANARY", "application/json; charset=latin-1"),
                *("multipart/form-data; boundary=CANARY", "text/plain, application/json"),
            )
        ),
    ],
)
def test_another_media_type_is_unsupported(
    client: httpx.Client, media_type: str, content: bytes
) -> None:
    answer = post(client, content, **{"Content-Type": media_type})
    assert (answer.status_code, problem(answer)) == (415, "unsupported-media-type")
    assert "CANARY" not in answer.text


def test_json_without_a_media_type_is_unsupported(client: httpx.Client) -> None:
    answer = client.post(USERS, content=person(), headers=fresh_address())
    assert (answer.status_code, problem(answer)) == (415, "unsupported-media-type")
    assert not {"accept-encoding", "accept-patch"} & set(answer.headers)


@pytest.mark.parametrize("fields", [{}, {"Content-Type": "text/plain; charset=utf-8"}])
def test_text_that_is_not_json_is_unprocessable(
    client: httpx.Client, fields: dict[str, str]
) -> None:
    answer = client.post(USERS, content=b"CANARY", headers={**fresh_address(), **fields})
    assert faults(answer) == [("", "json")]


@pytest.mark.parametrize("media_type", ["application/merge-patch+json", "application/vnd.x+JSON"])
def test_patch_accepts_every_json_type(
    service: Service, client: httpx.Client, media_type: str
) -> None:
    headers = {"Content-Type": media_type, **bearer(token_for(service, make_account(service)))}
    answer = client.patch("/v1/profile", content=b'{"name": "Grace"}', headers=headers)
    assert (answer.status_code, answer.json()["name"]) == (200, "Grace")
    for wrong in ("+json", "application/+json", "a b/c+json", f"{media_type}x"):
        answer = client.patch(
            "/v1/profile", content=b'{"name": "Ada"}', headers={**headers, "Content-Type": wrong}
        )
        assert (answer.status_code, problem(answer)) == (415, "unsupported-media-type")
        assert answer.headers["accept-patch"] == ACCEPT_PATCH


def test_options_lists_the_media_types_of_patch(client: httpx.Client) -> None:
    assert client.options("/v1/profile").headers["accept-patch"] == ACCEPT_PATCH
    assert "accept-patch" not in client.options(USERS).headers


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", 'application/json; charset="UTF-8"',
     "application/json;charset=utf-8"],
)  # fmt: skip
def test_media_types_are_case_insensitive(client: httpx.Client, media_type: str) -> None:
    assert post(client, person(), **{"Content-Type": media_type}).status_code == 201


@pytest.mark.parametrize(
    ("body", "expected", "missing"),
    [
        (b"{}", {("/name", "required"), ("/email", "required")}, ["name", "email"]),
        (b'{"name":"Ada"}', {("/email", "required")}, ["email"]),
        (b"[]", {("", "type")}, None),
        (b'"CANARY"', {("", "type")}, None),
        (b"null", {("", "type")}, None),
        (person(CANARY=1), {("", "additionalProperties")}, None),
        (person(role="admin"), {("", "additionalProperties")}, None),
        (person(name=None), {("/name", "type")}, None),
        (person(name=["CANARY"]), {("/name", "type")}, None),
        (person(name=""), {("/name", "minLength"), ("/name", "pattern")}, None),
        (person(name="CANARY" * 80), {("/name", "maxLength")}, None),
        (person(email="CANARY"), {("/email", "format")}, None),
        (person(password="CANARY"), {("/password", "minLength")}, None),
        (person(name="\u0000CANARY"), {("", "json")}, None),
        (person(name="CANARY\n"), {("/name", "pattern")}, None),
        (
            b'{"name":1,"password":2,"CANARY":3}',
            {
                *(("/name", "type"), ("/password", "type")),
                *(("", "additionalProperties"), ("/email", "required")),
            },
            ["email"],
        ),
    ],
)
def test_every_violation_is_listed_with_its_place(
    client: httpx.Client, body: bytes, expected: set[tuple[str, str]], missing: list[str] | None
) -> None:
    answer = post(client, body)
    found = faults(answer)
    assert len(found) == len(expected)
    assert set(found) == expected
    named = answer.json().get("missing_fields")
    assert (sorted(named) if named else named) == (sorted(missing) if missing else missing)


def test_an_invalid_change_is_unprocessable(service: Service, client: httpx.Client) -> None:
    token = bearer(token_for(service, make_account(service)))
    for body, code in ((b"{}", "minProperties"), (b"", "required"), (b'{"name":1}', "type")):
        answer = client.patch("/v1/profile", content=body, headers={**JSON_TYPE, **token})
        assert [found for _, found in faults(answer)] == [code]


def test_a_chunked_body_is_accepted(client: httpx.Client, service: Service) -> None:
    whole = person()
    pieces = iter([whole[:3], whole[3:10], whole[10:]])
    answer = client.post(USERS, content=pieces, headers={**JSON_TYPE, **fresh_address()})
    assert answer.status_code == 201
    with upload(service, "POST /v1/users HTTP/1.1\nTransfer-Encoding: chunked") as sending:
        sending.send(b"0\r\n\r\n")
        assert sending.answer().status == 422


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "CANARY", "GZIP"])
def test_an_encoded_body_is_unsupported(client: httpx.Client, coding: str) -> None:
    answer = post(client, person(), **{"Content-Encoding": coding})
    assert (answer.status_code, problem(answer)) == (415, "unsupported-content-encoding")
    assert answer.headers["accept-encoding"] == "identity"
    assert "CANARY" not in answer.text


@pytest.mark.parametrize("coding", ["identity", "Identity", ",identity, ,", ","])
def test_the_identity_encoding_is_accepted(client: httpx.Client, coding: str) -> None:
    assert post(client, person(), **{"Content-Encoding": coding}).status_code == 201
