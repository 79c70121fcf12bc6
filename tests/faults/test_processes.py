"""Processes of the server over raw sockets: an orderly start and stop, and workers that fail."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.faults.http1.small_server import GET, SLOW_UPLOAD, WAIT, Server, read_answer, started
from tests.faults.http1.small_service import Setup


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_finishes_running_requests_and_exits(workers: int) -> None:
    with started(Setup(workers=workers)) as server, server.connect(WAIT) as connection:
        time.sleep(0.2)
        server.stop()
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"], body) == (200, "close", b'{"waited": true}')
        assert server.wait() == 0, server.log_text()


@pytest.mark.parametrize(
    "client", [b"", b"GET / HT", SLOW_UPLOAD, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"]
)
def test_slow_clients_do_not_prevent_the_exit(client: bytes) -> None:
    setup = Setup(stop_seconds=3.0)
    with started(setup) as server, server.connect(client), server.connect(GET):
        time.sleep(0.2)
        begun = time.monotonic()
        server.stop()
        assert server.wait() == 0, server.log_text()
        assert time.monotonic() - begun < setup.stop_seconds + 1


def test_a_handler_that_never_returns_does_not_prevent_the_exit() -> None:
    setup = Setup(stop_seconds=3.0)
    hang = b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"
    with started(setup) as server, server.connect(hang):
        time.sleep(0.2)
        begun = time.monotonic()
        server.stop()
        assert server.wait() == 1
        assert time.monotonic() - begun < setup.stop_seconds + 1
        assert "ended by force" in server.log_text()


def test_ready_drops_before_draining() -> None:
    ready = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"
    with started(Setup(drain_seconds=1.0)) as server:
        with server.connect(ready) as connection:
            assert read_answer(connection)[0] == 200
        server.stop()
        begun = time.monotonic()
        time.sleep(0.2)
        with server.connect(ready) as connection:
            # It still listens and serves, and asks its clients to go elsewhere.
            status, headers, _ = read_answer(connection)
            assert (status, headers["connection"]) == (503, "close")
        with server.connect(GET) as connection:
            assert read_answer(connection)[0] == 200
        assert server.wait() == 0
        assert time.monotonic() - begun >= 0.9


def test_sigint_does_not_wait_for_load_balancers() -> None:
    with started(Setup(drain_seconds=1.5)) as server:
        begun = time.monotonic()
        server.stop(signal.SIGINT)
        assert server.wait() == 0
        assert time.monotonic() - begun < 1.4


@pytest.mark.parametrize("workers", [1, 2])
def test_an_application_that_fails_to_start_never_listens(workers: int) -> None:
    with started(Setup(workers=workers, fails_if_exists=__file__)) as server:
        assert server.wait() == 3
        assert server.ports() == []


def workers_of(server: Server) -> list[int]:
    """The ids of the worker processes."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [
        int(pid)
        for pid in children.split()
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def wait_for_start(server: Server, count: int) -> None:
    """Wait until so many workers have started, the replaced ones included."""
    until = time.monotonic() + 60
    while len(server.ports()) < count and time.monotonic() < until:
        time.sleep(0.05)
    assert len(server.ports()) == count, server.log_text()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_hung_worker_is_replaced(signum: signal.Signals) -> None:
    with started(Setup(workers=2)) as server:
        os.kill(workers_of(server)[0], signum)
        wait_for_start(server, 3)
        with server.connect(GET) as connection:
            assert read_answer(connection)[0] == 200
        server.stop()
        assert server.wait() == 0


def test_a_replacement_that_fails_to_start_is_tried_again(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    with started(Setup(workers=2, fails_if_exists=str(fault))) as server:
        fault.touch()
        os.kill(workers_of(server)[0], signal.SIGKILL)
        assert server.says("a worker exited with 3; replaced in 2 seconds")
        with server.connect(GET) as connection:
            assert read_answer(connection)[0] == 200
        fault.unlink()
        wait_for_start(server, 3)
        server.stop()
        assert server.wait() == 0


def test_a_killed_main_process_frees_the_port_at_once() -> None:
    setup = Setup(workers=2, drain_seconds=20, stop_seconds=60)
    with started(setup) as server, server.connect(WAIT) as connection:
        time.sleep(0.2)
        server.stop(signal.SIGKILL)
        server.wait()
        # Requests in flight are finished.
        assert read_answer(connection)[0] == 200
        until = time.monotonic() + setup.drain_seconds / 2
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            while True:
                try:
                    other.bind(("127.0.0.1", server.port))
                except OSError:
                    assert time.monotonic() < until
                    time.sleep(0.05)
                else:
                    break
