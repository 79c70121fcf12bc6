"""Forms and files in bodies, sent to the example of the engine (M6)."""

import asyncio
import errno
import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from api.contract.asgi import make_asgi
from api.contract.compile.request_bodies import Form, compile_body, compile_form
from api.contract.compile.schemas import Validators
from api.contract.contract import load_contract
from api.contract.serve.bridge import Bridge, Pool
from api.contract.serve.forms import FormReader, Upload
from tests.contract.example.library import (
    FOLDER,
    HANDLERS,
    make_library,
    make_ports,
    scope_fault,
)

pytestmark = pytest.mark.mission("M6")

SIGN = "/shelves/fiction/sign"
ADA = {"X-Reader-Card": "card-of-ada"}
PICTURE = b"\x89PNG" + bytes(range(256)) * 1000
"""More than stays in memory, with every byte."""
SHA256 = hashlib.sha256(PICTURE).hexdigest()
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
DISPOSITION = b'Content-Disposition: form-data; name="picture"; filename="a.png"\r\n'


@pytest.fixture
def library() -> ASGIApp:
    return make_library()


@pytest.fixture
def client(library: ASGIApp) -> Iterator[TestClient]:
    with TestClient(library, headers=ADA) as client:
        yield client


def part(head: bytes, data: bytes = b"x") -> bytes:
    """A part of a form whose boundary is `x`."""
    return b"--x\r\n" + head + b"\r\n" + data + b"\r\n"


def text(name: str, value: bytes, *heads: bytes) -> bytes:
    disposition = b'Content-Disposition: form-data; name="%s"\r\n' % name.encode()
    return part(disposition + b"".join(each + b"\r\n" for each in heads), value)


END = b"--x--\r\n"
FILE = part(DISPOSITION, PICTURE)


def test_a_form_arrives_typed(client: TestClient) -> None:
    fields = {"text": "Prosa für alle\r\n", "height": "12", "languages": ["en", "de"]}
    answer = client.put(SIGN, data=fields, files={"picture": ("a.png", PICTURE, "image/png")})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        **fields,
        "genre": "fiction",
        "picture": SHA256,
        "height": 12,
    }


def test_a_file_alone_is_a_form_with_defaults(client: TestClient) -> None:
    answer = client.put(SIGN, content=PICTURE, headers={"Content-Type": "Image/PNG"})
    assert answer.json() == {"genre": "fiction", "picture": SHA256, "height": 30}


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="picture"; filename="\\"q\\" \xc3\xa9.png"\r\n',
        b"Content-Disposition: form-data; name=picture; filename*=UTF-8''%e2%82%ac.png\r\n",
        b'content-disposition: Form-Data; name="picture"; filename="../../etc/passwd"\r\n',
        b'Content-Disposition: form-data; name="picture"\r\nContent-Type: image/png\r\n',
        b'Content-Disposition: form-data; name="picture"\r\nX-Other: 1\r\n',
        DISPOSITION + b"Content-Transfer-Encoding: binary\r\n",
    ],
)
def test_any_file_name_is_accepted_and_ignored(client: TestClient, head: bytes) -> None:
    body = part(head, PICTURE) + END + b"an epilogue"
    answer = client.put(SIGN, content=body, headers=FORM)
    assert (answer.status_code, answer.json().get("picture")) == (200, SHA256)


WRONG: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 422, "is required"),
    "no part": (END, 422, "picture is required"),
    "no picture": (text("text", b"a") + END, 422, "picture is required"),
    "no end": (FILE, 422, "ends before"),
    "no end of a part": (FILE[:-20], 422, "ends before"),
    "not a form": (b'{"picture": "x"}', 422, "well-formed"),
    "another boundary": (FILE.replace(b"--x", b"--y") + b"--y--\r\n", 422, "well-formed"),
    "no name": (part(b"Content-Disposition: form-data\r\n") + END, 422, "without a name"),
    "no disposition": (part(b"Content-Type: image/png\r\n") + END, 422, "without a name"),
    "an attachment": (part(DISPOSITION.replace(b"form-data", b"attachment")) + END, 422, "name"),
    "another part": (FILE + text("colour", b"red") + END, 422, "undeclared"),
    "two pictures": (FILE + FILE + END, 422, "given twice"),
    "two texts": (FILE + text("text", b"a") + text("text", b"b") + END, 422, "given twice"),
    "four languages": (FILE + text("languages", b"en") * 4 + END, 422, "at most 3"),
    "10,000 parts": (text("languages", b"en") * 10_000 + END, 422, "at most 3"),
    "another language": (FILE + text("languages", b"xx") + END, 422, "must be one of"),
    "a long text": (FILE + text("text", b"a" * 81) + END, 422, "at most 80 characters"),
    "a very long text": (FILE + text("text", b"a" * 400) + END, 422, "at most 320 bytes"),
    "an empty text": (FILE + text("text", b"") + END, 422, "must not be empty"),
    "not a number": (FILE + text("height", b"tall") + END, 422, "must be of type integer"),
    "a high number": (FILE + text("height", b"301") + END, 422, "at most 300"),
    "not UTF-8": (FILE + text("text", b"\xff") + END, 422, "UTF-8"),
    "NUL": (FILE + text("text", b"a\0") + END, 422, "control character"),
    "another charset": (
        FILE + text("text", b"a", b"Content-Type: text/plain; charset=utf-16") + END,
        *(422, "UTF-8"),
    ),
    "a text of another type": (
        FILE + text("text", b"a", b"Content-Type: text/html") + END,
        *(422, "text/plain"),
    ),
    "a picture of another type": (
        part(DISPOSITION + b"Content-Type: image/svg+xml\r\n") + END,
        *(422, "image/png"),
    ),
    "base64": (
        part(DISPOSITION + b"Content-Transfer-Encoding: base64\r\n") + END,
        422,
        "unencoded",
    ),
    "a header twice": (part(DISPOSITION * 2) + END, 422, "repeats a header"),
    "many headers": (part(b"".join(b"A%d: 1\r\n" % n for n in range(9))) + END, 422, "well-formed"),
    "a long header": (part(b"A: " + b"1" * 10_000 + b"\r\n") + END, 422, "well-formed"),
    "a header without a name": (part(b": 1\r\n") + END, 422, "well-formed"),
    "a large picture": (part(DISPOSITION, bytes(1_000_001)) + END, 422, "at most 1000000 bytes"),
    "a very large picture": (part(DISPOSITION, bytes(1_100_000)) + END, 413, "larger than"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_form_is_a_problem(client: TestClient, name: str) -> None:
    body, status, detail = WRONG[name]
    answer = client.put(SIGN, content=body, headers=FORM)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["title"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("image/svg+xml", 415),
        ("multipart/mixed; boundary=x", 415),
        ("", 415),
        ("multipart/form-data", 422),
        ("multipart/form-data; boundary=", 422),
        (f"multipart/form-data; boundary={'x' * 300}", 422),
    ],
)
def test_a_body_of_another_type_is_refused(
    client: TestClient, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.put(SIGN, content=FILE + END, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert "multipart/form-data or image/png" in answer.json()["title"]


@pytest.fixture(scope="module")
def form() -> Form:
    form = load_contract(FOLDER, HANDLERS, scope_fault).operations["set_sign"].form
    assert form is not None
    return form


def test_json_of_the_format_binary_is_not_parsed() -> None:
    schema = {"type": "string", "format": "binary", "maxLength": 100}
    content = {"application/json": {"schema": schema}}
    declared = {"requestBody": {"required": True, "content": content}, "parameters": []}
    assert compile_body({}, "post", declared, Validators({})) is None
    form = compile_form({}, declared, Validators({}))
    assert form is not None
    reader = FormReader(form, "application/json; charset=utf-8")
    reader.write(b'{"a": 1, ')
    reader.write(b'"a": ')
    upload = reader.finish()
    assert isinstance(upload, Upload)
    assert upload.file.read() == b'{"a": 1, "a": '
    reader.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 65_537])
def test_pieces_of_any_size_are_the_same_form(form: Form, size: int) -> None:
    body = part(DISPOSITION, b"\r\n--x\r\r\n-" * 200) + text("text", b"a") + END
    reader = FormReader(form, FORM["Content-Type"])
    for start in range(0, len(body), size):
        reader.write(body[start : start + size])
    found: Any = reader.finish()
    upload = found["picture"]
    assert isinstance(upload, Upload)
    assert upload.file.read() == b"\r\n--x\r\r\n-" * 200
    assert (found["text"], found["height"], upload.size) == ("a", 30, 1800)
    reader.close()
    assert upload.file.closed


def test_a_large_file_is_not_kept_in_memory(form: Form) -> None:
    reader = FormReader(form, "image/png")
    piece = bytes(10_000)
    tracemalloc.start()
    for _ in range(100):
        reader.write(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reader.finish()
    reader.close()
    assert peak < 300_000


@pytest.mark.parametrize("body", [PICTURE, FILE + END], ids=["alone", "in a form"])
@pytest.mark.parametrize("failing", ["write", "seek"])
def test_a_full_disk_refuses_a_file_for_now(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, body: bytes, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(file: SpooledTemporaryFile[bytes]) -> None:
        closing(file)
        fail()

    closing = SpooledTemporaryFile.close
    monkeypatch.setattr(SpooledTemporaryFile, failing, fail)
    monkeypatch.setattr(SpooledTemporaryFile, "close", close)
    headers = {"Content-Type": "image/png"} if body is PICTURE else FORM
    answer = client.put(SIGN, content=body, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    monkeypatch.undo()
    assert client.put(SIGN, content=body, headers=headers).status_code == 200


def test_a_slow_upload_holds_no_thread() -> None:
    contract = load_contract(FOLDER, HANDLERS, scope_fault)
    pool = Pool("reads", 1, 0)
    app = make_asgi(
        contract, replace(make_ports(contract), bridge=Bridge({"reads": pool, "writes": pool}))
    )
    scope = {
        "type": "http",
        "method": "PUT",
        "raw_path": SIGN.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"image/png"), (b"x-reader-card", b"card-of-ada")],
    }

    async def upload_slowly() -> tuple[int, list[Any]]:
        pieces = [{"type": "http.request", "body": bytes(9_000), "more_body": True}] * 20
        sent: list[Any] = []
        asked, resumed = asyncio.Event(), asyncio.Event()

        async def receive() -> Any:  # noqa: ANN401 - as ASGI has it.
            if pieces:
                return pieces.pop()
            asked.set()
            await resumed.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it.
            sent.append(message)

        async def finish_later() -> int:
            await asked.wait()
            resumed.set()
            return pool.use

        use, _ = await asyncio.gather(finish_later(), app(scope, receive, send))
        return use, sent

    use, sent = asyncio.run(upload_slowly())
    assert use == 0
    assert sent[0]["status"] == 200
    pool.close()
