"""Clients that start bodies and then stop sending do not block others (M6, M10)."""

import json
import select
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.api.uploads import Upload, upload
from tests.databases import make_database_url
from tests.factories import fresh_email
from tests.service import Service, running

pytestmark = pytest.mark.mission("M6")

JSON = {"Content-Type": "application/json"}
LIMIT = 1024
"""Bytes of a body: the service has memory for eight such bodies, and for two of one address."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with (
        make_database_url("sqlite", tmp_path) as url,
        running(tmp_path, url, MAX_BODY_BYTES=str(LIMIT)) as service,
    ):
        yield service


@contextmanager
def silent_uploads(service: Service, addresses: Sequence[str], sent: int) -> Iterator[list[Upload]]:
    """Announce a body of the largest size from each address, send so many bytes, and wait."""
    head = f"POST /v1/auth/refresh HTTP/1.1\nContent-Length: {LIMIT}\nX-Forwarded-For: "
    with ExitStack() as stack:
        uploads = [stack.enter_context(upload(service, head + each)) for each in addresses]
        for each in uploads:
            each.send(b" " * sent)
        yield uploads


def refused(uploads: Sequence[Upload], count: int) -> list[Upload]:
    """Wait until so many are answered; they are refused, and the others wait for more."""
    answered: list[Upload] = []
    while len(answered) < count:
        waiting = [each.peer for each in uploads if each not in answered]
        ready, _, _ = select.select(waiting, [], [], 10)
        assert ready, f"only {len(answered)} of {count} are answered"
        answered += [each for each in uploads if each.peer in ready]
    for each in answered:
        answer = each.answer()
        assert answer.status == 503
        assert json.loads(answer.read())["code"] == "overloaded"
    assert len(answered) == count
    return answered


def register(service: Service, address: str) -> int:
    """Send a small body from an address and return the status."""
    client = service.client(**{"X-Forwarded-For": address, **JSON})
    return client.post("/v1/users", json={"name": "Ada", "email": fresh_email()}).status_code


def finish(uploads: Sequence[Upload], left: int) -> None:
    """Send the rest of the bodies, which are white space and nothing else."""
    for each in uploads:
        each.send(b" " * left)
        assert each.answer().status == 422


@pytest.mark.parametrize(
    "addresses", [["10.9.0.1"] * 12, [f"2001:db8:9:9::{number:x}" for number in range(1, 13)]]
)
def test_one_address_gets_a_share_of_the_memory(service: Service, addresses: list[str]) -> None:
    with silent_uploads(service, addresses, LIMIT - 24) as uploads:
        gone = refused(uploads, 10)
        assert register(service, "10.9.0.2") == 201
        assert register(service, "2001:db8:9:a::1") == 201
        assert register(service, addresses[0]) == 503
        finish([each for each in uploads if each not in gone], 24)
    assert register(service, addresses[0]) == 201


def test_all_addresses_together_are_bounded(service: Service) -> None:
    addresses = [f"10.9.1.{number // 2}" for number in range(9)]
    with silent_uploads(service, addresses, LIMIT - 24) as uploads:
        gone = refused(uploads, 1)
        finish([each for each in uploads if each not in gone], 24)
    assert register(service, addresses[0]) == 201


def test_announced_but_unsent_bytes_use_no_memory(service: Service) -> None:
    with silent_uploads(service, ["10.9.2.1"] * 100, 10) as uploads:
        assert register(service, "10.9.2.1") == 201
        finish(uploads[:3], LIMIT - 10)


def test_an_aborted_upload_returns_its_share(service: Service) -> None:
    for _ in range(5):
        with silent_uploads(service, ["10.9.3.1"] * 2, LIMIT - 24):
            pass
    for _ in range(100):
        if register(service, "10.9.3.1") == 201:
            return
    pytest.fail("the share is not given back")


def test_eight_silent_connections_block_nobody(fresh_service: Service) -> None:
    """With sixteen mebibytes each they took all that there was for everybody."""
    size = 16 * 1024 * 1024
    head = f"POST /v1/auth/refresh HTTP/1.1\nContent-Type: application/json\nContent-Length: {size}"
    with ExitStack() as stack:
        uploads = [stack.enter_context(upload(fresh_service, head)) for _ in range(8)]
        for each in uploads:
            assert each.answer().status == 413
        chunked = "POST /v1/auth/refresh HTTP/1.1\nTransfer-Encoding: chunked"
        uploads = [stack.enter_context(upload(fresh_service, chunked)) for _ in range(64)]
        for each in uploads:
            each.send_chunk(b" " * 16 * 1024)
        assert register(fresh_service, "127.0.0.1") == 201
