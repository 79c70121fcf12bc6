"""Two servers like S3, each with an empty bucket, in this process.

moto knows most of S3 and takes any signature. nanio knows little and checks every signature.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import uvicorn
from moto.server import ThreadedMotoServer
from nanio.app import build_app
from nanio.auth.credentials import StaticCredentialResolver
from nanio.config import Settings

from tests.service import serving

KEY, SECRET = "someone", "something"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


@contextmanager
def moto_bucket() -> Iterator[str]:
    """Serve a bucket, and yield the value of `STORAGE_URL` for it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        # It keeps its buckets and their policies as long as the process.
        httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()
        httpx.put(f"{endpoint}/pictures").raise_for_status()
        yield f"s3://pictures/shop?endpoint={endpoint}"
    finally:
        server.stop()


def forbid(bucket: str, action: str) -> None:
    """Have moto refuse an action, such as `s3:PutObject`, in a bucket that it serves."""
    policy = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "arn:aws:s3:::*"}
    url = f"{bucket.partition('endpoint=')[2]}/pictures?policy"
    httpx.put(url, json={"Version": "2012-10-17", "Statement": [policy]}).raise_for_status()


@contextmanager
def nanio_bucket() -> Iterator[str]:
    """Serve a bucket, and yield the value of `STORAGE_URL` for it."""
    with tempfile.TemporaryDirectory() as folder:
        # Its buckets are folders.
        (Path(folder) / "pictures").mkdir()
        credentials = StaticCredentialResolver({KEY: SECRET})
        app = build_app(Settings(data_dir=Path(folder), credentials=credentials))
        with serving(uvicorn.Config(app, log_level="warning")) as endpoint:
            yield f"s3://pictures/shop?endpoint={endpoint}"


S3_SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "moto": moto_bucket,
    "nanio": nanio_bucket,
}
