"""Sends webhooks as Standard Webhooks (https://www.standardwebhooks.com) describes.

All attempts run in one event loop in a thread of its own, and the work on the database in others.
The requests to one endpoint run in one task, so that a slow receiver delays no other.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from uuid import UUID

import httpcore

from api.contract.engine_errors import Overloaded
from api.contract.serve.bridge import Pool
from api.outbound.public_network import NotPublicError, OutboundNetwork
from api.server.logs import Logger
from api.server.metrics import Metrics
from models.access.secret_box import SecretBox
from models.errors import DatabaseUnavailable
from models.storage.base import utcnow
from models.storage.database import Database
from models.webhooks.attempts import (
    MAX_LEASED,
    OutgoingRequest,
    RequestBatch,
    create_deliveries,
    due_endpoints,
    lease_requests,
    record_outcomes,
)
from models.webhooks.delivery import TEXT_LENGTH, AttemptOutcome

PAUSE = 0.5
"""Seconds between two searches for due deliveries."""
_ATTEMPT_SECONDS = 15.0
"""Time limit for one attempt: resolving the name, sending, and reading the response."""
_DATABASE_THREADS = 2
"""Connections to the database that deliveries use."""
_QUEUE = 100
"""Work that may wait for a connection: more than there are webhook endpoints."""
_READ_BYTES = 1024
_SECONDS = re.compile(r"[0-9]{1,8}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class Deliverer:
    """Sends due deliveries in the background. Several processes may run one each."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        logger: Logger,
        metrics: Metrics,
        *,
        ready: Callable[[], bool],
        public: bool,
    ) -> None:
        """Prepare the thread without starting it; it works only while `ready()` returns true.

        With `public`, connections are made to public addresses only.
        """
        self._database = database
        self._box = box
        self._logger = logger
        self._ready = ready
        self._metrics = metrics
        self._network = OutboundNetwork(public=public)
        self._threads = Pool("webhooks", _DATABASE_THREADS, _QUEUE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)

    def start(self) -> None:
        """Start the thread. It can be started only once."""
        self._thread.start()

    def stop(self, seconds: float = 0.0) -> None:
        """Begin no further attempt, and wait up to `seconds` for those that are running.

        Other processes repeat attempts that are not finished.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> None:
        asyncio.run(self._run())
        self._threads.close()
        self._network.close()

    async def _run(self) -> None:
        tasks: dict[UUID, asyncio.Task[None]] = {}
        while not self._stopping.is_set():
            if self._ready():
                await self._guard(self._start_tasks(tasks))
            await asyncio.sleep(PAUSE)
        if tasks:
            await asyncio.wait(tasks.values())

    async def _guard(self, work: Awaitable[None]) -> None:
        """Do work, and log if it fails. The attempts of a lost lease are repeated by themselves."""
        try:
            await work
        except (DatabaseUnavailable, Overloaded):
            # Readiness reports the database, and a stopping process refuses work.
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the next time may be better.
            self._logger.warning("webhooks failed", cause=type(error).__name__)

    async def _start_tasks(self, tasks: dict[UUID, asyncio.Task[None]]) -> None:
        """Start a task for each endpoint that has due deliveries and no task.

        Deliveries of new events are created first.
        """
        is_behind = True
        while is_behind and not self._stopping.is_set():
            is_behind = await self._threads.run("webhooks", create_deliveries, self._database)
        due = await self._threads.run("webhooks", self._database.read, due_endpoints, single=True)
        for webhook_id in [each for each, task in tasks.items() if task.done()]:
            del tasks[webhook_id]
        for webhook_id in due:
            if webhook_id not in tasks:
                tasks[webhook_id] = asyncio.create_task(self._guard(self._send_to(webhook_id)))

    async def _send_to(self, webhook_id: UUID) -> None:
        """Send what is due to one endpoint, each request of a batch over a connection of its own.

        A pool of many connections would search all of them for each request.
        """
        lease = partial(lease_requests, box=self._box, webhook_id=webhook_id)
        connect = partial(
            httpcore.AsyncConnectionPool, network_backend=self._network, max_connections=1
        )
        async with AsyncExitStack() as stack:
            pools = [await stack.enter_async_context(connect()) for _ in range(MAX_LEASED)]
            while not self._stopping.is_set():
                batch = await self._threads.run("webhooks", self._database.transact, lease)
                if batch is None:
                    return
                attempts = map(partial(self._attempt, batch), batch.requests, pools)
                outcomes = await asyncio.gather(*attempts)
                await self._record(webhook_id, dict(zip(batch.requests, outcomes, strict=True)))

    async def _record(
        self, webhook_id: UUID, outcomes: Mapping[OutgoingRequest, AttemptOutcome]
    ) -> None:
        record = partial(record_outcomes, webhook_id=webhook_id, outcomes=outcomes)
        if await self._threads.run("webhooks", self._database.transact, record):
            self._logger.error("webhook endpoint switched off", webhook=str(webhook_id))
        for outcome in outcomes.values():
            self._metrics.count_webhook(succeeded=outcome.has_succeeded)
        failed = [each for each in outcomes.values() if not each.has_succeeded]
        if failed:
            reason = failed[0].status or failed[0].text
            count = len(failed)
            self._logger.warning(
                "webhooks not delivered", webhook=str(webhook_id), count=count, reason=reason
            )

    async def _attempt(
        self, batch: RequestBatch, request: OutgoingRequest, pool: httpcore.AsyncConnectionPool
    ) -> AttemptOutcome:
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "Concord"),
            *sign(batch.keys, str(request.event_id), int(time.time()), request.body).items(),
        ]
        try:
            async with (
                asyncio.timeout(_ATTEMPT_SECONDS),
                pool.stream("POST", batch.url, headers=headers, content=request.body) as response,
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
