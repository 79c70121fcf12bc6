"""Sends webhooks as Standard Webhooks (https://www.standardwebhooks.com) describes.

All attempts run in one event loop in a thread of its own, and the work on the database in others.
The requests to one endpoint run in one task, so that a slow receiver delays no other.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from uuid import UUID

from api.contract.engine_errors import Overloaded
from api.contract.serve.bridge import Pool
from api.server.logs import Logger
from api.server.metrics import Metrics
from models.access.secret_box import SecretBox
from models.errors import DatabaseUnavailable
from models.storage.database import Database
from models.webhooks.attempts import (
    MAX_LEASED,
    OutgoingRequest,
    create_deliveries,
    due_endpoints,
    lease_requests,
    record_outcomes,
)
from models.webhooks.delivery import AttemptOutcome

PAUSE = 0.5
"""Seconds between two searches for due deliveries."""
_DATABASE_THREADS = 2
"""Connections to the database that deliveries use."""
_QUEUE = 100
"""Work that may wait for a connection: more than there are webhook endpoints."""
_RESOLVERS, _SHARE, _NAMES = 16, 4, 1000
"""Names that are resolved at once, those of one host among them, and those that wait."""


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
        self._public = public
        self._threads = Pool("webhooks", _DATABASE_THREADS, _QUEUE)
        self._resolvers = Pool("names", _RESOLVERS, _NAMES, share=_SHARE)
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
        self._resolvers.close()

    async def _run(self) -> None:
        tasks: dict[UUID, asyncio.Task[None]] = {}
        while not self._stopping.is_set():
            if self._ready():
                await self._guard(self._start_tasks(tasks))
            await asyncio.to_thread(self._stopping.wait, PAUSE)
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
        """Send what is due to one endpoint, each request of a batch over its own connection."""
        from api.outbound import webhook_requests  # noqa: PLC0415 - as its docstring says.

        lease = partial(lease_requests, box=self._box, webhook_id=webhook_id)
        async with webhook_requests.open_connections(
            self._resolvers, MAX_LEASED, public=self._public
        ) as connections:
            while not self._stopping.is_set():
                batch = await self._threads.run("webhooks", self._database.transact, lease)
                if batch is None:
                    return
                attempt = partial(webhook_requests.attempt, batch)
                outcomes = await asyncio.gather(*map(attempt, batch.requests, connections))
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
