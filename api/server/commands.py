"""The command line."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Protocol

import click
from sqlalchemy.orm import Session

from api.contract.contract import Contract
from api.contract.engine_errors import ContractError
from api.credentials.key_file import SigningKeyError, require_private
from api.credentials.key_rotation import rotate_keys
from api.server.application import Application
from api.server.checks import MailService, examine
from api.server.http1.limits import ConnectionLimits
from api.server.logs import Logger, StandardLogs, make_logger
from api.server.processes import serving, working
from api.server.processes.serving_metrics import serve_metrics
from api.server.processes.standard_error import patient_standard_error
from api.server.setting_files import SettingsError, read_secret
from api.server.settings import Settings
from models.access.authenticator_app import SecondFactor
from models.errors import DatabaseUnavailable, DomainError
from models.identity.password import Passwords
from models.identity.user import User
from models.lifecycle import Lifecycle
from models.storage.database import Database
from models.storage.migrating import migrate as migrate_database
from models.storage.schema_version import SchemaError, schema_fault


class CreateApplication(Protocol):
    """The application factory."""

    def __call__(self, settings: Settings, *, does_upkeep: bool = True) -> Application:
        """Create an application, which does the background work if `does_upkeep`."""


@dataclass(frozen=True, slots=True)
class Program:
    """The parts that the commands need: the application, the contract, and the mail transport."""

    create_app: CreateApplication
    load_contract: Callable[[], Contract]
    make_transport: Callable[[Settings], MailService | None]


class _Failure(click.ClickException):
    """An error that ends a command with a message on stderr and a non-zero exit code."""

    def show(self, file: IO[str] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"concord: {line}", err=True, file=file)


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
    except (SettingsError, SigningKeyError, ContractError, SchemaError) as error:
        raise _Failure(str(error)) from error
    except DatabaseUnavailable as error:
        raise _Failure(f"the database cannot be used: {error.reason}") from error
    except DomainError as error:
        raise _Failure(error.detail) from error
    except OSError as error:
        raise _Failure(f"{error.strerror}: {error.filename or 'HOST and PORT'}") from error


@contextmanager
def _database(*, migrated: bool = True) -> Iterator[Database]:
    """Open the configured database for a command other than `serve`."""
    with _failures_in_one_line():
        settings = Settings.from_environment(os.environ)
        database = Database(settings.database_url)
        try:
            if migrated:
                _require_migrated(database, settings)
            yield database
        finally:
            database.dispose()


def _require_migrated(database: Database, settings: Settings, *, patient: bool = False) -> None:
    if settings.is_embedded:
        migrate_database(database)
        return
    try:
        fault = schema_fault(database.schema_version())
    except DatabaseUnavailable as error:
        # The service starts without its database, reports that it is not ready, and waits.
        fault = None if patient else f"the database cannot be used: {error.reason}"
    if fault:
        raise _Failure(fault)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Concord: an API for accounts and orders whose OpenAPI document is the program.

    Settings come from the environment; docs/operating.md lists them.
    """


@cli.command()
@click.option(
    "--no-upkeep",
    is_flag=True,
    help="Leave mail, expiry and other background work to processes of `work`.",
)
@click.pass_obj
def serve(program: Program, *, no_upkeep: bool) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    with _failures_in_one_line(), patient_standard_error():
        settings = Settings.from_environment(os.environ)
        # Mistakes in the settings or the contract are reported here, before the server listens.
        with closing(program.create_app(settings, does_upkeep=not no_upkeep)) as app:
            _log_what_libraries_say(app.logger)
            _require_migrated(app.database, settings, patient=True)
            options = serving.ServerOptions(
                settings.host,
                settings.port,
                app.problems.types,
                settings.cors_origins,
                ConnectionLimits(header_seconds=settings.header_timeout),
                settings.drain_seconds,
            )
            if settings.workers > 1 and settings.redis_url is None:
                app.logger.warning("rate limits are counted per process: set REDIS_URL")
            if settings.mail_url is None:
                app.logger.warning("messages are not sent: set MAIL_URL")
            try:
                require_private(settings.signing_key_file)
            except SigningKeyError as error:
                # In production, `create_app` rejects such a file.
                app.logger.warning(str(error))
            if settings.workers == 1:
                with serve_metrics(settings, app.logger, app.metrics):
                    serving.serve(app, options)
        if settings.workers > 1:
            make = partial(_worker, program, settings, does_upkeep=not no_upkeep)
            with serve_metrics(settings, app.logger) as has_ended:
                serving.serve_workers(make, options, settings.workers, has_ended)


@cli.command()
@click.pass_obj
def work(program: Program) -> None:
    """Do mail, expiry and other background work without serving, until SIGTERM or Ctrl-C."""
    with _failures_in_one_line(), patient_standard_error():
        settings = Settings.from_environment(os.environ)
        with closing(program.create_app(settings)) as app:
            _log_what_libraries_say(app.logger)
            _require_migrated(app.database, settings, patient=True)
            is_alone = settings.workers == 1 and settings.broker_url is None
            if is_alone:
                with serve_metrics(settings, app.logger, app.metrics):
                    working.work(app)
        if not is_alone:
            make = partial(_worker, program, settings)
            with serve_metrics(settings, app.logger) as has_ended:
                working.work_in_processes(make, settings.workers, has_ended)


@cli.command()
@click.option("--to", help="A version of the schema; an older one deletes what later ones added.")
def migrate(to: str | None) -> None:
    """Migrate the database to the newest schema."""
    with _database(migrated=False) as database:
        migrate_database(database, to=to)


@cli.command("create-admin")
@click.option("--email", required=True, help="The address to sign in with.")
@click.option("--name", required=True, help="The person's name.")
def create_admin(email: str, name: str) -> None:
    """Create an administrator; the password comes from ADMIN_PASSWORD or a prompt."""
    with _failures_in_one_line():
        password = read_secret(os.environ, "ADMIN_PASSWORD")
    if not password and not sys.stdin.isatty():
        raise _Failure("set ADMIN_PASSWORD or ADMIN_PASSWORD_FILE, or run this in a terminal")
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
    """Remove the second factor of an account and end all its sessions and API keys."""

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
    help="Seconds until the new key signs, to copy the file to other machines.",
)
@click.option(
    "--compromised",
    is_flag=True,
    help="Reject all tokens signed with older keys, at once.",
)
def rotate_key(delay: int, compromised: bool) -> None:
    """Start signing with a new key; existing tokens remain valid until they expire.

    Running processes load the changed SIGNING_KEY_FILE within a second. Restart those that have a
    copy of it, as in containers and under systemd.
    """
    if delay and compromised:
        raise _Failure("--compromised takes effect at once; remove --delay")
    with _failures_in_one_line():
        file = Settings.from_environment(os.environ).signing_key_file
        click.echo(f"Key {rotate_keys(file, delay=delay, compromised=compromised)} made.")


@cli.command("seed-demo")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="Number of accounts.",
)
@click.pass_obj
def seed_demo(program: Program, count: int) -> None:
    """Fill the database with fictional accounts, products and orders, the same every time."""
    if os.environ.get("APP_ENV") == "production":
        raise _Failure("seed-demo is not for production: its passwords are public")
    from tqdm import tqdm  # noqa: PLC0415 - what serves has no use for a bar, nor for the demo.

    from models.demo.demo_accounts import DEMO_PASSWORD  # noqa: PLC0415 - as above.
    from models.demo.demo_shop import seed_demo as fill  # noqa: PLC0415 - as above.

    with _database() as database, tqdm(unit=" rows", disable=None) as bar:
        lifecycle = Lifecycle(*program.load_contract().state_machine("OrderStatus"))

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        added = fill(database, Passwords(), lifecycle, count=count, progress=advance)
    click.echo(f"{added.accounts} accounts added; the password of each is {DEMO_PASSWORD!r}.")
    click.echo(f"{added.products} products and {added.orders} orders added.")


@cli.command()
@click.pass_obj
def check(program: Program) -> None:
    """Test each part of an installation; exit with 1 if one failed."""
    with _failures_in_one_line():
        settings = Settings.from_environment(os.environ)
    transport = program.make_transport(settings)
    failed = False
    for finding in examine(settings, program.load_contract, transport):
        click.echo(f"{finding.piece:<9} {finding.state:<7} {finding.text}")
        failed = failed or finding.state == "failed"
    sys.exit(failed)


@cli.command()
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml")
@click.pass_obj
def openapi(program: Program, form: str) -> None:
    """Print the OpenAPI document that the service publishes."""
    with _failures_in_one_line():
        url = Settings.from_environment(os.environ).public_url
        document = program.load_contract().document.served_at(url)
    sys.stdout.buffer.write(document.yaml if form == "yaml" else document.json)


def _worker(program: Program, settings: Settings, *, does_upkeep: bool = True) -> Application:
    """Create the application of one of several worker processes."""
    _log_what_libraries_say(make_logger(settings))
    return program.create_app(settings, does_upkeep=does_upkeep)


def _log_what_libraries_say(logger: Logger) -> None:
    logging.basicConfig(handlers=[StandardLogs(logger)], level=logging.WARNING)
    logging.getLogger("api").setLevel(logging.INFO)
