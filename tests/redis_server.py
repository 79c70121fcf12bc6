"""A Redis server for tests, and servers that only look like one."""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import pytest
import redis

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
