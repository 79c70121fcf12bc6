"""Bodies that are too large or too slow: refused on arrival, with little memory (M10)."""

import gc
import json
import threading
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import suppress

import httpx
import pytest

from api.contract.compile.request_bodies import Body
from api.contract.serve.bodies import read_json
from api.contract.strict_json import JSON
from tests.api.accounts import fresh_address
from tests.api.uploads import upload
from tests.databases import make_database_url
from tests.factories import fresh_email
from tests.service import Service, running

pytestmark = pytest.mark.mission("M10")

USERS = "/v1/users"
MEGABYTE = 1024 * 1024
SMALL = 16 * 1024


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes bodies of 1 KiB."""
    folder = tmp_path_factory.mktemp("small")
    with (
        make_database_url("sqlite", folder) as url,
        running(folder, url, MAX_BODY_BYTES="1024") as service,
    ):
        yield service


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits half a second for a body."""
    folder = tmp_path_factory.mktemp("hasty")
    with (
        make_database_url("sqlite", folder) as url,
        running(folder, url, BODY_TIMEOUT="0.5") as service,
    ):
        yield service


def person(**members: object) -> bytes:
    return json.dumps({"name": "Ada", "email": fresh_email(), **members}).encode()


def test_a_small_operation_accepts_16_kibibytes(fresh_service: Service) -> None:
    within = person().rjust(SMALL)
    answer = httpx.post(
        fresh_service.url + USERS, content=within, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201
    head = f"POST {USERS} HTTP/1.1\nContent-Length: {SMALL + 1}"
    with upload(fresh_service, head) as sending:
        answer_to_more = sending.answer()
        assert answer_to_more.status == 413
        assert f"{SMALL} bytes" in json.loads(answer_to_more.read())["detail"]


def test_the_largest_product_is_accepted_in_its_longest_spelling(fresh_service: Service) -> None:
    wide = "\U0001f600"
    product = {
        "sku": f"S{fresh_email().partition('@')[0][:20]}".upper(),
        "name": wide * 200,
        "description": wide * 5000,
        "price": {"amount": 1999, "currency": "USD"},
        "metadata": {f"name{number:036}": wide * 500 for number in range(50)},
    }
    text = json.dumps(product, indent=16)
    assert len(text) > 300_000
    answer = fresh_service.admin().client.post(
        "/v1/products", content=text, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(("size", "is_in_a_thread"), [(8 * 1024, False), (8 * 1024 + 1, True)])
def test_a_large_body_is_parsed_in_a_thread(
    fresh_service: Service, monkeypatch: pytest.MonkeyPatch, size: int, *, is_in_a_thread: bool
) -> None:
    names: list[str] = []

    def read(body: Body, fields: Mapping[str, str], text: bytes) -> JSON:
        names.append(threading.current_thread().name)
        return read_json(body, fields, text)

    monkeypatch.setattr("api.contract.serve.bodies.read_json", read)
    body = person().rjust(size)
    answer = httpx.post(
        fresh_service.url + USERS, content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201
    assert [name.startswith("reads") for name in names] == [is_in_a_thread]


@pytest.mark.parametrize("size", [1025, 10**6, 10**30])
def test_a_declared_length_over_the_cap_is_refused_before_the_body(
    small: Service, size: int
) -> None:
    # Nobody is asked to go on, so that nothing is sent in vain (RFC 9110, section 10.1.1).
    head = f"POST {USERS} HTTP/1.1\nContent-Length: {size}\nExpect: 100-continue"
    with upload(small, head) as sending:
        answer = sending.answer()
        assert answer.status in ((400, 413) if size > 2**63 else (413,))
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_within_the_cap_gets_100_continue(small: Service) -> None:
    body = person()
    head = f"POST {USERS} HTTP/1.1\nContent-Type: application/json\nExpect: 100-continue"
    with upload(small, f"{head}\nContent-Length: {len(body)}") as sending:
        assert sending.peer.recv(100).startswith(b"HTTP/1.1 100 ")
        sending.send(body)
        assert sending.answer().status == 201


def test_a_chunked_body_is_refused_once_it_exceeds_the_cap(small: Service) -> None:
    with upload(small, f"POST {USERS} HTTP/1.1\nTransfer-Encoding: chunked") as sending:
        for _ in range(2):
            sending.send_chunk(b" " * 512)
        sending.send_chunk(b" ")
        # The body has no end yet, and the answer is there.
        answer = sending.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        members = json.loads(answer.read())
        assert members["type"].endswith("/content-too-large")
        assert "1024 bytes" in members["detail"]


def test_an_endless_body_uses_no_more_memory_than_the_cap(small: Service) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        with upload(small, f"POST {USERS} HTTP/1.1\nTransfer-Encoding: chunked") as sending:
            chunk = b" " * 65536
            # Of 32 MiB the service takes what it has read when it answers; the rest breaks off.
            with suppress(ConnectionError):
                for _ in range(512):
                    sending.send_chunk(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MEGABYTE


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_slow_body_times_out(hasty: Service, framing: str) -> None:
    with upload(hasty, f"POST {USERS} HTTP/1.1\n{framing}\nContent-Type: application/json") as slow:
        slow.send(b"1\r\n{\r\n" if "chunked" in framing else b"{")
        answer = slow.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert json.loads(answer.read())["type"].endswith("/request-timeout")


def test_trickling_bytes_do_not_extend_the_deadline(hasty: Service) -> None:
    with upload(hasty, f"POST {USERS} HTTP/1.1\nContent-Length: 1000") as slow:
        slow.peer.settimeout(0.1)
        received = b""
        for _ in range(100):
            with suppress(TimeoutError, ConnectionError):
                slow.send(b" ")
            with suppress(TimeoutError):
                received = slow.peer.recv(1000)
                break
        assert received.startswith(b"HTTP/1.1 408 ")


def test_a_disconnect_during_the_body_changes_nothing(small: Service) -> None:
    email = fresh_email()
    body = json.dumps({"name": "Ada", "email": email}).encode()
    head = f"POST {USERS} HTTP/1.1\nContent-Type: application/json"
    known = f"{head}\nContent-Length: {len(body)}"
    chunked = f"{head}\nTransfer-Encoding: chunked"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for start, sent in ((known, body), (chunked, chunks)):
        for length in range(len(sent)):
            sender = f"X-Forwarded-For: {fresh_address()['X-Forwarded-For']}"
            with upload(small, f"{start}\n{sender}") as sending:
                sending.send(sent[:length])
    with upload(small, known) as sending:
        sending.send(body)
        assert sending.answer().status == 201
