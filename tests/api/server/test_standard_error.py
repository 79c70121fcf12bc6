"""Standard error whose reader stops, or that cannot be written, does not stop the service."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from api.server.processes.standard_error import PatientWriter
from tests.live import PROGRAM, running_program

LINES = 200


@contextmanager
def full_pipe() -> Iterator[tuple[int, int, int]]:
    """A pipe of a page that is full: both its ends, and the bytes in it."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writer, False)
        yield reader, writer, os.write(writer, b"-" * 100_000)
    finally:
        os.close(reader)


def read_all(descriptor: int) -> bytes:
    return b"".join(iter(lambda: os.read(descriptor, 65_536), b""))


def test_lines_that_do_not_fit_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with full_pipe() as (reader, descriptor, filling):
        writer = PatientWriter(descriptor, most_bytes=1000)
        for number in range(LINES):
            writer.write(b"line %4d\n" % number)
        assert len(os.read(reader, filling)) == filling
        writer.close()
        os.close(descriptor)
        written = read_all(reader).decode().splitlines()
    assert written == [f"line {number:4}" for number in range(len(written))]
    [warning] = caplog.messages
    assert warning == f"{LINES - len(written)} log lines were dropped"


def test_waiting_lines_are_written_on_close() -> None:
    reader, descriptor = os.pipe()
    writer = PatientWriter(descriptor)
    for number in range(LINES):
        writer.write(b"%d\n" % number)
    writer.close()
    os.close(descriptor)
    assert read_all(reader).split() == [b"%d" % number for number in range(LINES)]
    os.close(reader)


@pytest.mark.mission("M20")
@pytest.mark.parametrize("target", ["2>fifo", "2>/dev/full", "2>&-"])
def test_the_service_answers_and_stops_without_standard_error(tmp_path: Path, target: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    unread = os.open(fifo, os.O_RDWR)
    fcntl.fcntl(unread, fcntl.F_SETPIPE_SZ, 4096)
    program = ("sh", "-c", f'exec "$@" {target}', "sh", *PROGRAM)
    with running_program(program, tmp_path, {}) as server, httpx.Client() as client:
        for _ in range(LINES):
            assert client.get(f"{server.url}/nothing", timeout=30).status_code == 404
    os.close(unread)
    assert re.search("error|exception", server.log_text(), re.IGNORECASE) is None
