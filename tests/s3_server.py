"""A server like S3, in this process, with an empty bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something"}


@contextmanager
def s3_bucket() -> Iterator[str]:
    """Serve a bucket, and yield the value of `STORAGE_URL` for it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        httpx.put(f"{endpoint}/pictures").raise_for_status()
        yield f"s3://pictures/shop?endpoint={endpoint}"
    finally:
        server.stop()
