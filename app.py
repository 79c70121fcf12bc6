"""The application factory, `create_app`, and the entry point of the command line."""

import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from api.contract.asgi import make_asgi
from api.contract.compile.admission import compile_credential_limit
from api.contract.compile.operations import READS, WRITES
from api.contract.contract import Contract, load_contract
from api.contract.ports import Ports
from api.contract.serve.bridge import Bridge, Pool
from api.contract.serve.rate_limits import RateLimiter
from api.credentials.access_tokens import Tokens
from api.credentials.bearer import (
    Authenticator,
    RecentUses,
    authenticate,
    origin_of,
    recheck,
)
from api.credentials.key_file import require_private
from api.credentials.signing import KeyRing
from api.documents import GUIDES, Assets
from api.mail.composing import Composer
from api.mail.sending import Sender
from api.mail.transports import Transport, make_transport
from api.outbound.deliverer import Deliverer
from api.outbound.webhook_urls import WebhookUrls
from api.pages.drawing import draw
from api.pages.guides import Guides
from api.pages.rendering import make_renderer
from api.providers.payment_providers import PaymentProviders
from api.server.application import Application
from api.server.commands import Program, cli
from api.server.feed_tail import FeedTail
from api.server.kept_answers import Idempotency
from api.server.logs import Logger, make_logger
from api.server.maintenance import make_jobs
from api.server.metrics import Metrics
from api.server.problem_documents import Problems
from api.server.readiness import Readiness
from api.server.setting_types import mail_host
from api.server.settings import Settings
from api.server.traces.tracing import make_tracing
from api.server.upkeep import Background, Job, Reporter, Upkeep, report_row, stop_all
from models.access.secret_box import SecretBox
from models.access.session import SessionRules
from models.access.token_status import TokenStatus, TokenStatuses
from models.files.store import FileStore
from models.files.stored_picture import Pictures
from models.identity.email_address import EmailAddress
from models.identity.known_address import KnownAddress
from models.identity.password import Passwords
from models.identity.permission import scope_fault
from models.identity.token import note_uses
from models.jobs.backlog import read_backlog
from models.lifecycle import Lifecycle
from models.replica import ReplicatedDatabase
from models.storage.database import Database
from models.storage.schema_version import newest_version

# Imported modules stay in memory, so the garbage collector can skip them.
gc.freeze()

CONTRACT = Path(__file__).parent / "openapi"
_DOCS = Path(__file__).parent / "docs"
HANDLERS = "api"
_PATIENCE = 1.0
"""Maximum seconds that a server that stops waits for running jobs."""
_SIGN_UPS = 16
"""Queued sign-ups before further ones get 503: about a second of hashing."""

_PICTURES, _UPLOADS = 2, 16
"""Pictures that are decoded at once, and those that wait for it; further ones get 503."""


def create_app(settings: Settings, *, does_upkeep: bool = True) -> Application:
    """Create an application that shares no state with any other.

    While it serves, it does the background work too, unless `does_upkeep` is false.

    Raises:
        ContractError: the contract has a mistake, or its handlers do not match it.
        SigningKeyError: the signing key cannot be loaded.
        SettingsError: the settings need a package that is not installed.
    """
    # Hashing briefly takes 19 MiB. The system gets them back if the process has not grown yet.
    passwords = Passwords()
    production, public = settings.app_env == "production", urlsplit(settings.public_url)
    contract = load(settings.public_url, is_tested=production)
    keys = KeyRing.load(settings.signing_key_file, create=not production)
    if production:
        require_private(settings.signing_key_file)
    metrics, draining = _make_metrics(contract), threading.Event()
    pools = _make_pools(settings, metrics)
    database = _open_database(settings, sum(pool.threads for pool in pools.values()))
    metrics.watch_database(database)
    tracing = make_tracing(
        settings.otel_exporter_otlp_endpoint, contract.document.version, database
    )
    bridge = Bridge(pools)
    tokens = Tokens(keys, settings.public_url)
    problems = Problems(settings.public_url, contract.document.problems)
    logger = make_logger(settings)
    readiness = Readiness(database, logger)
    statuses = TokenStatuses(strict_administrators=settings.admin_second_factor)
    lifecycle = Lifecycle(*contract.state_machine("OrderStatus"))
    webhook_box = SecretBox(keys.derive("webhooks"))
    pictures = Pictures(
        database,
        FileStore(settings.storage_url, presigned=settings.storage_reads == "presigned"),
    )
    services = {
        "assets": Assets({"order-states.svg": draw(lifecycle, "The states of an order")}),
        "database": database,
        "document": contract.document,
        "draining": draining,
        "guides": Guides(_DOCS, GUIDES, public.path),
        # Apps allow no colon in the name of a service.
        "issuer": f"{public.netloc}{public.path}".replace(":", " "),
        "keys": keys,
        "lifecycle": lifecycle,
        "local_email": settings.allow_local_email,
        "passwords": passwords,
        "payment_providers": PaymentProviders.of(
            settings.payment_secrets, logger, metrics.count_payment_event
        ),
        "problems": problems,
        "readiness": readiness,
        "reservation": timedelta(seconds=settings.reservation_seconds),
        "seal": SecretBox(keys.derive("second-factors")),
        "session_rules": SessionRules(
            idle=timedelta(seconds=settings.session_idle_seconds),
            longest=timedelta(seconds=settings.session_seconds),
            grace=timedelta(seconds=settings.refresh_grace_seconds),
            statuses=statuses,
            refresh_key=keys.derive("refresh-tokens"),
        ),
        "store": pictures.store,
        "tokens": tokens,
        "webhook_box": webhook_box,
        "webhook_urls": WebhookUrls(public=production),
    }

    uses, feed = RecentUses(), FeedTail(database, draining)
    # Mail has its own thread, so that a slow mail server delays no other job.
    lanes = [
        list(map(tracing.traced, lane))
        for lane in (
            make_jobs(
                settings,
                database,
                lifecycle,
                pictures,
                partial(report_row, logger, metrics, database),
            ),
            _make_mail_jobs(settings, database, logger, keys, draining.is_set),
        )
        if lane
    ]
    # Without its database, each of these jobs would fail and say so.
    upkeep = partial(
        Upkeep,
        logger=logger,
        ready=partial(bool, readiness),
        metrics=metrics,
        reporter=Reporter(database, logger),
    )
    probe = Upkeep(
        [Job("readiness", 0, readiness.check), Job("metrics", 0, metrics.refresh)], logger
    )
    deliverer = Deliverer(
        database, webhook_box, logger, metrics, ready=partial(bool, readiness), public=production
    )
    background = Background(
        [job for lane in lanes for job in lane],
        [upkeep(lane) for lane in lanes],
        [probe, deliverer],
    )
    # Readers of the feed wait for its job, so it runs often and in a thread of its own.
    threads = [
        upkeep([Job("feed", 0, feed.advance, rests=False)], pause=FeedTail.PAUSE),
        upkeep(
            [
                Job("uses", 15, partial(note_uses, database, uses.take)),
                Job("backlog", 15, lambda: metrics.set_backlog(database.read(read_backlog))),
            ],
            reporter=None,
        ),
        *(
            [upkeep([Job("replica", 0, database.beat)], reporter=None, pause=database.PAUSE)]
            if isinstance(database, ReplicatedDatabase)
            else []
        ),
        *(background.threads if does_upkeep else [probe]),
    ]

    async def knows(email_key: str, network: str) -> bool:
        work = partial(KnownAddress.is_known, email_key=email_key, network=network)
        return await bridge.run(READS, "authentication", partial(database.read, single=True), work)

    rate_limiter = RateLimiter(
        settings.redis_url,
        {"email": EmailAddress.normal_form},
        knows,
        compile_credential_limit(contract.document.bundle, "bearer"),
        logger,
        metrics.count_rejection,
    )

    metrics.watch_rate_limits(lambda: rate_limiter.is_reachable)

    async def load_status(credential: UUID | bytes) -> TokenStatus | None:
        work = partial(statuses.read, credential=credential)
        with suppress(BlockingIOError):
            return database.glance(work)
        return await bridge.run(READS, "authentication", partial(database.read, single=True), work)

    async def start_up() -> None:
        # The first readiness request must find that a check has already run.
        await bridge.run(READS, "readiness", readiness.check)
        for each in threads:
            each.start()

    async def shut_down() -> None:
        stop_all(threads, _PATIENCE)
        await rate_limiter.close()
        close()

    def close() -> None:
        bridge.close()
        database.dispose()
        tracing.close()

    authenticator = Authenticator(tokens, load_status, uses)
    ports = Ports(
        settings=settings,
        authenticators={"bearer": partial(authenticate, authenticator, rate_limiter)},
        problems=problems,
        database=database,
        logger=logger,
        metrics=metrics,
        cursor_key=keys.derive("cursors"),
        recheck=partial(recheck, statuses),
        idempotency=Idempotency(database),
        rate_limiter=rate_limiter,
        render=make_renderer(public.path),
        # Other processes may send the mail, and each process that serves places events in the feed.
        services=services
        | {"job_names": ("feed", *{"mail", *(job.name for job in background.jobs)})},
        from_request={"origin": origin_of},
        waits={"events": feed.wait},
        readers={"picture": pictures.receive},
        bridge=bridge,
        start_span=tracing.start_span,
        start_up=start_up,
        shut_down=shut_down,
    )
    asgi = make_asgi(contract, ports)
    return Application(
        settings, asgi, draining, problems, database, metrics, logger, background, close
    )


def _make_mail_jobs(
    settings: Settings,
    database: Database,
    logger: Logger,
    keys: KeyRing,
    is_stopping: Callable[[], bool],
) -> list[Job]:
    """Return the job that sends messages. Without MAIL_URL, they are left to other processes."""
    transport = open_mail(settings)
    if transport is None:
        return []
    composer = Composer(settings.public_url, settings.mail_from)
    mailboxes = keys.derive("mailboxes")
    sender = Sender(database, composer, transport, logger, mailboxes, is_stopping)
    # Mail spends most of its time waiting for the mail server, so it need not rest.
    mail = Job(
        "mail", 1, sender.send_batch, lambda: sender.is_delivering, is_shared=True, rests=False
    )
    return [mail]


def _make_metrics(contract: Contract) -> Metrics:
    metrics = Metrics()
    metrics.set_build(contract.document.version, newest_version())
    return metrics


def _open_database(settings: Settings, threads: int) -> Database:
    """Create the connection pools of a process that runs requests in `threads` threads."""
    # Upkeep, mail, the feed and notes of uses take one connection each, and webhooks two. Readiness
    # checks have their own.
    size, is_pooled = threads + 6, settings.database_pooler_url is not None
    url, replica = settings.database_pooler_url or settings.database_url, settings.database_read_url
    if replica is None:
        return Database(url, pool_size=size, is_pooled=is_pooled)
    # Heartbeats take one more connection to the primary. While the replica hangs, half of the
    # threads serve other reads.
    reads = max(1, settings.threads // 2)
    return ReplicatedDatabase(
        url, replica, pool_size=size + 1, replica_reads=reads, is_pooled=is_pooled
    )


def _make_pools(settings: Settings, metrics: Metrics) -> dict[str, Pool]:
    """Create the thread pools that the contract names, and report their use as metrics."""
    hashing, threads, queue = settings.hashing_threads, settings.threads, settings.queue
    # A quarter of the threads is left to others if one kind of reads or writes is stuck.
    share = max(1, threads - max(1, threads // 4))
    pools = {
        READS: Pool(READS, threads, queue, share=share),
        WRITES: Pool(WRITES, threads, queue, share=share),
        "passwords": Pool("passwords", hashing, queue),
        # Anyone can sign up. A short queue refuses a burst of sign-ups early, and a pool of their
        # own keeps the burst from delaying sign-ins.
        "registrations": Pool("registrations", max(1, hashing // 2), min(queue, _SIGN_UPS)),
        # Decoding takes much time and memory, so few pictures are decoded at once.
        "pictures": Pool("pictures", _PICTURES, min(queue, _UPLOADS)),
    }
    for name, pool in pools.items():
        metrics.watch_pool(name, pool.threads, partial(getattr, pool, "use"))
    return pools


def load(public_url: str | None = None, *, is_tested: bool = False) -> Contract:
    """Load the contract of a service and its handlers, as `load_contract` does.

    Raises:
        ContractError: the contract has a mistake, or its handlers do not match it.
    """
    return load_contract(CONTRACT, HANDLERS, scope_fault, public_url, is_tested=is_tested)


def open_mail(settings: Settings) -> Transport | None:
    """Return the transport of messages, or `None` without MAIL_URL."""
    url = settings.mail_url
    return None if url is None else make_transport(url, mail_host(settings.public_url))


PROGRAM = Program(create_app, load, open_mail)


def main() -> None:
    """Run the command line."""
    cli(obj=PROGRAM)


if __name__ == "__main__":
    main()
