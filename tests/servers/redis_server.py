"""A Redis server for tests, and servers that only look like one."""

import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
import redis

from tests.live import HOST, free_port
from tests.tools import find_tool

URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
"""A database of a Redis server in which the tests may count."""


@cache
def _error() -> str | None:
    try:
        with redis.Redis.from_url(URL, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        return f"there is no Redis server at TEST_REDIS_URL: {error}"
    return None


def require_redis() -> str:
    """Give the server's URL. Without one the test is skipped, or fails where CI is "true"."""
    error = _error()
    if error is not None and os.environ.get("CI") == "true":
        pytest.fail(error)
    if error is not None:
        pytest.skip(error)
    return URL


def fresh_address() -> str:
    """An address that no run of the tests has counted for in a server that outlives them."""
    number = uuid.uuid4().int
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections, reads everything and never answers; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    peers: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                peers.append(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        for each in (listener, *peers):
            each.close()


@contextmanager
def no_server() -> Iterator[str]:
    """A port that is taken and that nobody listens on; the URL of what is not there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


@contextmanager
def own_server(folder: Path) -> Iterator[tuple[redis.Redis, subprocess.Popen[bytes]]]:
    """Run a server that a test may kill, and yield a client and the server's process."""
    port = free_port()
    options = ("--save", "", "--repl-diskless-sync-delay", "0", "--bind", HOST, "--dir", folder)
    with (folder / f"redis-{port}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own arguments.
            [find_tool("redis-server"), *options, "--port", str(port)], stdout=log
        )
    try:
        with redis.Redis(HOST, port, socket_timeout=5) as client:
            _wait_for(client, "role", "master")
            yield client, process
    finally:
        process.kill()
        process.wait()


def follow(replica: redis.Redis, primary: redis.Redis) -> None:
    """Make one server the replica of another, and wait until it has the primary's data."""
    replica.replicaof(HOST, primary.connection_pool.connection_kwargs["port"])
    _wait_for(replica, "master_link_status", "up")


def _wait_for(client: redis.Redis, name: str, value: str) -> None:
    until = time.monotonic() + 20
    while True:
        with suppress(redis.ConnectionError):
            if client.info("replication").get(name) == value:
                return
        assert time.monotonic() < until
        time.sleep(0.02)
