"""The requests of webhooks: signed, sent to public addresses only, and their responses read.

Loading this module takes 80 ms, and few shops have webhooks, so it is loaded for the first one.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpcore

from api.contract.engine_errors import Overloaded
from api.contract.serve.bridge import Pool
from api.outbound.public_network import NotPublicError, OutboundNetwork
from models.storage.base import utcnow
from models.webhooks.attempts import OutgoingRequest, RequestBatch
from models.webhooks.delivery import TEXT_LENGTH, AttemptOutcome

_ATTEMPT_SECONDS = 15.0
"""Time limit for one attempt: resolving the name, sending, and reading the response."""
_READ_BYTES = 1024
_SECONDS = re.compile(r"[0-9]{1,8}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@asynccontextmanager
async def open_connections(
    resolvers: Pool, count: int, *, public: bool
) -> AsyncIterator[Sequence[httpcore.AsyncConnectionPool]]:
    """Provide connections, which are opened when they are first used.

    Each is a pool of one, because a pool of many would search all of them for each request.
    """
    network = OutboundNetwork(resolvers, public=public)
    async with AsyncExitStack() as stack:
        made = [
            httpcore.AsyncConnectionPool(network_backend=network, max_connections=1)
            for _ in range(count)
        ]
        yield [await stack.enter_async_context(each) for each in made]


async def attempt(
    batch: RequestBatch, request: OutgoingRequest, connection: httpcore.AsyncConnectionPool
) -> AttemptOutcome:
    """Send a request, and return what came of it."""
    headers = [
        ("Content-Type", "application/json"),
        ("User-Agent", "Concord"),
        *sign(batch.keys, str(request.event_id), int(time.time()), request.body).items(),
    ]
    try:
        async with (
            asyncio.timeout(_ATTEMPT_SECONDS),
            connection.stream("POST", batch.url, headers=headers, content=request.body) as response,
        ):
            text = await _read_start(response)
    except NotPublicError as error:
        return AttemptOutcome(None, str(error))
    except TimeoutError:
        return AttemptOutcome(None, f"no response within {_ATTEMPT_SECONDS:.0f} seconds")
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError, Overloaded) as error:
        return AttemptOutcome(
            None, f"no connection: {_printable(str(error)) or type(error).__name__}"
        )
    return AttemptOutcome(response.status, text, _retry_after(response.headers))


def sign(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign a request, with one signature for each key."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in digests),
    }


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> datetime | None:
    """Return the time that `Retry-After` names (RFC 9110, 10.2.3), if it is valid."""
    found = [value for name, value in headers if name.lower() == b"retry-after"]
    text = found[0].decode("latin-1") if found else ""
    if _SECONDS.fullmatch(text):
        return utcnow() + timedelta(seconds=int(text))
    try:
        return parsedate_to_datetime(text).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


async def _read_start(response: httpcore.Response) -> str:
    text = b""
    async for piece in response.aiter_stream():
        text += piece
        if len(text) > _READ_BYTES:
            break
    return _printable(text[:_READ_BYTES].decode("utf-8", "replace"))


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)[:TEXT_LENGTH]
