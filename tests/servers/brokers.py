"""The message brokers that the tests use: a RabbitMQ server, and Redis."""

import os
from functools import cache

import pytest
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from tests.servers.redis_server import require_redis

URL = os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
"""A virtual host of a RabbitMQ server, in which the tests may have the queue `concord`."""

BROKERS = (
    pytest.param("rabbitmq", marks=pytest.mark.rabbitmq),
    pytest.param("redis", marks=pytest.mark.redis),
)


@cache
def _error() -> str | None:
    try:
        with Connection(URL, connect_timeout=5) as connection:  # type: ignore[no-untyped-call]  # It has no types.
            connection.ensure_connection(max_retries=1, timeout=5)
    except (OSError, OperationalError) as error:
        return f"there is no RabbitMQ server at TEST_RABBITMQ_URL: {error}"
    return None


def require_broker(name: str) -> str:
    """Give a broker's URL. Without it the test is skipped, or fails where CI is "true"."""
    if name == "redis":
        return require_redis()
    error = _error()
    if error is not None and os.environ.get("CI") == "true":
        pytest.fail(error)
    if error is not None:
        pytest.skip(error)
    return URL
