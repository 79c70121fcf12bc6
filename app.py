"""Concord: `create_app`, the only way to an application, and the command line."""

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO
from uuid import UUID

import click
import flask
from sqlalchemy.orm import Session
from starlette.types import ASGIApp, Receive, Scope, Send

from api import serving
from api.contract.binding import ContractASGIApp, bind
from api.contract.bridge import Bridge, Pool
from api.contract.calls import Call, Handler
from api.contract.cors import Cors
from api.contract.document import ContractError, load_document
from api.contract.drawing import draw
from api.contract.errors import ContractViolation
from api.contract.forwarding import Forwarding
from api.contract.middleware import Engine, Parts
from api.contract.operations import compile_operations
from api.contract.pagination import Cursors
from api.contract.rate_limits import RateLimiter
from api.contract.routing import Router
from api.contract.schemas import Validators
from api.contract.transitions import compile_lifecycle
from api.contract.verification import Verifier
from api.documents import Assets
from api.http1.limits import ConnectionLimits
from api.idempotency import Idempotency
from api.key_file import SigningKeyError
from api.key_rotation import rotate_keys
from api.logs import Logger, StandardLogs, make_logger
from api.mail.composing import Composer
from api.mail.sending import Sender
from api.mail.transports import make_transport
from api.metrics import Metrics
from api.problems import Problems
from api.security import Authenticator, RecentUses, Tokens, recheck
from api.settings import Settings, SettingsError
from api.signing import KeyRing
from api.upkeep import Job, Upkeep
from models.audit_event import forget_erased, purge_events
from models.database import Database
from models.email_address import EmailAddress
from models.errors import DomainError
from models.idempotency import purge_answers
from models.message_upkeep import purge_messages
from models.migrating import migrate as migrate_database
from models.one_time_token import purge_one_time_tokens
from models.order_expiry import expire_orders
from models.password import Passwords
from models.seal import Seal
from models.second_factor import SecondFactor
from models.session import SessionRules
from models.token import Standing, Token
from models.token_upkeep import note_uses, purge_tokens
from models.user import User

CONTRACT = Path(__file__).parent / "openapi"


@dataclass(frozen=True, slots=True)
class Application:
    """An ASGI application and what its server needs to know of it.

    `draining` is set by the server when the process is to stop: from then on it is not ready.
    """

    settings: Settings
    asgi: ASGIApp
    draining: threading.Event
    database: Database
    metrics: Metrics
    logger: Logger
    close: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        await self.asgi(scope, receive, send)


def create_app(settings: Settings) -> Application:
    """Make an application that shares nothing with any other.

    Raises:
        ContractError, ContractViolation: the contract is broken, or a handler does not fit it.
        SigningKeyError: there is no key to sign with.
    """
    # It takes 19 MiB for a moment, which come back if the process has not grown yet.
    passwords = Passwords()
    document = load_document(CONTRACT)
    validators = Validators(document.bundle)
    operations = {
        operation.id: operation for operation in compile_operations(document.bundle, validators)
    }
    keys = KeyRing.load(settings.signing_key_file, create=settings.app_env != "production")
    # Two connections more are for the upkeep and for the mail.
    database = Database(
        settings.database_url, pool_size=settings.threads + settings.hashing_threads + 2
    )
    pools = {
        "requests": Pool("requests", settings.threads, settings.queue),
        "passwords": Pool("passwords", settings.hashing_threads, settings.queue),
        # Who asks whether the service is ready waits for no request, and keeps none from a thread.
        "probes": Pool("probes", 1, 8),
    }
    bridge = Bridge(pools)
    tokens = Tokens(keys, settings.public_url)
    problems = Problems(settings.public_url)
    cursors = Cursors(keys.derive("cursors"))
    draining = threading.Event()
    metrics = Metrics()
    for name, pool in pools.items():
        metrics.watch_pool(name, partial(getattr, pool, "use"))
    logger = make_logger(settings)
    router = Router(operations.values())
    rate_limiter = RateLimiter(settings.redis_url, {"email": EmailAddress.normal_form}, logger)
    idempotency = Idempotency(database)
    lifecycle = compile_lifecycle(document.bundle, "OrderStatus")
    services = {
        "assets": Assets({"order-states.svg": draw(lifecycle, "The states of an order")}),
        "database": database,
        "document": document,
        "draining": draining,
        "keys": keys,
        "lifecycle": lifecycle,
        "passwords": passwords,
        "problems": problems,
        "reservation": timedelta(seconds=settings.reservation_seconds),
        "seal": Seal(keys.derive("second-factors")),
        "session_rules": SessionRules(
            idle=timedelta(seconds=settings.session_idle_seconds),
            longest=timedelta(seconds=settings.session_seconds),
            strict_administrators=settings.admin_second_factor,
            refresh_key=keys.derive("refresh-tokens"),
        ),
        "tokens": tokens,
    }

    uses = RecentUses()
    keep = timedelta(seconds=settings.idempotency_seconds)
    jobs = [
        Job("orders", 1, partial(expire_orders, database, lifecycle)),
        Job("idempotency", 60, partial(purge_answers, database, keep)),
        Job("tokens", 600, partial(purge_tokens, database)),
        Job(
            "audit",
            3600,
            partial(purge_events, database, timedelta(seconds=settings.audit_seconds)),
        ),
        Job("erased", 3600, partial(forget_erased, database)),
        Job("links", 60, partial(purge_one_time_tokens, database)),
        Job("messages", 600, partial(purge_messages, database)),
        Job("uses", 15, partial(note_uses, database, uses.take)),
    ]

    composer = Composer(settings.public_url, settings.mail_from)
    sender = Sender(database, composer, make_transport(settings.mail_url), logger)
    # A server that is slow to take mail keeps nothing else waiting.
    mail = [Job("mail", 1, sender.send_next)]

    async def load_standing(credential: UUID | bytes) -> Standing | None:
        work = partial(Token.standing, credential=credential)
        return await bridge.run("requests", database.read, work)

    async def shut_down() -> None:
        await rate_limiter.close()
        close()

    def close() -> None:
        bridge.close()
        database.dispose()

    def make_call(operation_id: str, handler: Handler) -> Call:
        return Call(
            operations[operation_id],
            handler,
            services=services,
            database=database,
            cursors=cursors,
            render=lambda name, it: flask.render_template(name, it=it),
            recheck=recheck,
            idempotency=idempotency,
        )

    def make_engine(app: ContractASGIApp) -> Engine:
        parts = Parts(
            router=router,
            forwarding=Forwarding(settings.trusted_proxies, settings.public_url),
            authenticator=Authenticator(tokens, load_standing, uses),
            rate_limiter=rate_limiter,
            cursors=cursors,
            cors=Cors(settings.cors_origins, router.resources),
            bridge=bridge,
            problems=problems,
            verifier=Verifier(document.bundle, validators),
            logger=logger,
            metrics=metrics,
            settings=settings,
            upkeep=(Upkeep(jobs, logger), Upkeep(mail, logger)),
            close=shut_down,
            request_id=validators.component("RequestId"),
        )
        return Engine(app.dispatch, parts)

    asgi = bind(document.bundle, operations, make_call, make_engine)
    return Application(settings, asgi, draining, database, metrics, logger, close)


class _Failure(click.ClickException):
    """An error that ends a command: one line of it, and an exit code that is not zero."""

    def show(self, file: IO[str] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"concord: {line}", err=True, file=file)


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
    except (SettingsError, SigningKeyError, ContractError, ContractViolation) as error:
        raise _Failure(str(error)) from error
    except DomainError as error:
        raise _Failure(error.detail) from error
    except OSError as error:
        raise _Failure(f"{error.strerror}: {error.filename or 'HOST and PORT'}") from error


@contextmanager
def _database(*, migrated: bool = True) -> Iterator[Database]:
    """Open the database of the settings, for a command other than `serve`."""
    with _failures_in_one_line():
        settings = Settings.from_environment(os.environ)
        database = Database(settings.database_url)
        try:
            if migrated:
                _require_migrated(database, settings)
            yield database
        finally:
            database.dispose()


def _require_migrated(database: Database, settings: Settings) -> None:
    if settings.is_embedded:
        migrate_database(database)
    elif database.answers() and not database.is_ready():
        raise _Failure("the database needs `python app.py migrate` first")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Concord: an API for accounts and orders whose OpenAPI document is the program.

    Settings come from the environment; README.md lists them.
    """


@cli.command()
def serve() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    # What has been imported stays, and is not searched for garbage while the rest is made.
    gc.freeze()
    with _failures_in_one_line():
        settings = Settings.from_environment(os.environ)
        options = serving.ServerOptions(
            settings.host,
            settings.port,
            settings.public_url,
            ConnectionLimits(header_seconds=settings.header_timeout),
            settings.drain_seconds,
        )
        # What is wrong with the settings or the contract is said here, before anything listens.
        with closing(create_app(settings)) as app:
            _log_what_libraries_say(app.logger)
            _require_migrated(app.database, settings)
            if settings.workers > 1 and settings.redis_url is None:
                app.logger.warning("each process counts rate limits for itself: set REDIS_URL")
            if settings.mail_url is None:
                app.logger.warning("no message is sent to anybody: set MAIL_URL")
            if settings.workers == 1:
                _serve_metrics(app)
                serving.serve(app, options)
        if settings.workers > 1:
            serving.serve_workers(partial(_worker, settings), options, settings.workers)


@cli.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    with _database(migrated=False) as database:
        migrate_database(database)


@cli.command("create-admin")
@click.option("--email", required=True, help="The address to sign in with.")
@click.option("--name", required=True, help="The person's name.")
def create_admin(email: str, name: str) -> None:
    """Create an administrator; the password comes from ADMIN_PASSWORD or is asked for twice."""
    password = os.environ.get("ADMIN_PASSWORD") or None
    if password is None and not sys.stdin.isatty():
        raise _Failure("set ADMIN_PASSWORD, or run this in a terminal")
    password = password or click.prompt("Password", hide_input=True, confirmation_prompt=True)
    with _database() as database:
        password_hash = Passwords().hash(password, email=email)
        create = partial(
            User.create_administrator, name=name, email=email, password_hash=password_hash
        )
        user = database.transact(create, write=True)
        click.echo(f"Administrator {user.id} created.")


@cli.command("reset-second-factor")
@click.option("--email", required=True, help="The account's address.")
def reset_second_factor(email: str) -> None:
    """Remove the second factor of somebody who lost the app and the codes; sign them out."""

    def work(session: Session) -> None:
        user = User.by_email(session, email)
        if user is None:
            raise _Failure("there is no account with this address")
        SecondFactor.take_away(session, user)

    with _database() as database:
        database.transact(work, write=True)
    click.echo("The second factor was removed.")


@cli.command("rotate-key")
@click.option(
    "--delay",
    type=click.IntRange(0, 86_400),
    default=0,
    show_default=True,
    help="Seconds until the new key signs; in them the file is copied to other machines.",
)
@click.option(
    "--compromised",
    is_flag=True,
    help="Believe no token that an older key signed, from now on.",
)
def rotate_key(delay: int, compromised: bool) -> None:  # noqa: FBT001 - as click hands it over.
    """Sign with a new key; tokens that older ones signed hold until they expire.

    The service reads SIGNING_KEY_FILE again by itself.
    """
    if delay and compromised:
        raise _Failure("a key that is compromised has to go at once: leave --delay out")
    with _failures_in_one_line():
        file = Settings.from_environment(os.environ).signing_key_file
        click.echo(f"Key {rotate_keys(file, delay=delay, compromised=compromised)} made.")


@cli.command("seed-demo")
@click.option(
    "--count", type=click.IntRange(min=1), default=300, show_default=True, help="How many accounts."
)
def seed_demo(count: int) -> None:
    """Fill the database with made-up people, products and orders, the same every time."""
    if os.environ.get("APP_ENV") == "production":
        raise _Failure("seed-demo is not for production: everybody knows its password")
    from tqdm import tqdm  # noqa: PLC0415 - what serves has no use for a bar, nor for the demo.

    from models.demo import DEMO_PASSWORD  # noqa: PLC0415 - as above.
    from models.demo_shop import seed_demo as fill  # noqa: PLC0415 - as above.

    with _database() as database, tqdm(unit=" rows", disable=None) as bar:
        lifecycle = compile_lifecycle(load_document(CONTRACT).bundle, "OrderStatus")

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        added = fill(database, Passwords(), lifecycle, count=count, progress=advance)
    click.echo(f"{added.accounts} accounts added; the password of each is {DEMO_PASSWORD!r}.")
    click.echo(f"{added.products} products and {added.orders} orders added.")


@cli.command()
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml")
def openapi(form: str) -> None:
    """Print the contract as it is served."""
    with _failures_in_one_line():
        document = load_document(CONTRACT)
    sys.stdout.buffer.write(document.yaml if form == "yaml" else document.json)


def _worker(settings: Settings) -> Application:
    """Make the application of one of several processes."""
    gc.freeze()
    _log_what_libraries_say(make_logger(settings))
    app = create_app(settings)
    _serve_metrics(app)
    return app


def _log_what_libraries_say(logger: Logger) -> None:
    logging.basicConfig(handlers=[StandardLogs(logger)], level=logging.WARNING)
    logging.getLogger("api").setLevel(logging.INFO)


def _serve_metrics(app: Application) -> None:
    """Serve the counts of this process on the first free of the workers' ports."""
    if app.settings.metrics_port:
        first = app.settings.metrics_port
        for port in range(first, min(first + app.settings.workers, 65_536)):
            with suppress(OSError):
                app.metrics.start_server(port)
                return
        app.logger.warning("no free port for /metrics", port=app.settings.metrics_port)


if __name__ == "__main__":
    cli()
