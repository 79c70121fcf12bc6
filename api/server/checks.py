"""The command `check`: tests each part of an installation.

Every finding is one line. None contains a password, because it may end up in a log.
"""

import smtplib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol
from urllib.parse import urlsplit

from api.contract.contract import Contract
from api.contract.engine_errors import ContractError
from api.credentials import key_file
from api.credentials.key_file import SigningKeyError
from api.server.settings import Settings
from models.errors import DatabaseUnavailable
from models.files.store import FileStore
from models.replica import ReplicaOutdated, ReplicatedDatabase
from models.storage.database import Database
from models.storage.schema_version import SchemaError, newest_version, schema_fault

_REDIS_SECONDS = 3.0
_SKEW_SECONDS = 5.0


class MailService(Protocol):
    """The transport for messages."""

    def check(self) -> None:
        """Test every step before a message; an error says why no message could be sent."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one part. A note is only information, whereas a failure needs a remedy."""

    piece: str
    state: Literal["ok", "note", "failed"]
    text: str


def examine(
    settings: Settings, load_contract: Callable[[], Contract], transport: MailService | None
) -> Iterator[Finding]:
    """Test every part of an installation in turn, with valid settings."""
    yield Finding("settings", "ok", f"valid for {settings.app_env}")
    yield _contract(load_contract)
    yield from _database(settings)
    if settings.database_pooler_url is not None:
        yield _pooler(settings.database_url, settings.database_pooler_url)
    if settings.database_read_url is not None:
        yield _replica(settings.database_url, settings.database_read_url)
    yield _redis(settings)
    yield _broker(settings)
    yield _storage(settings)
    yield _mail(settings, transport)
    yield _key(settings)
    yield _proxies(settings)


def _contract(load_contract: Callable[[], Contract]) -> Finding:
    try:
        load_contract()
    except ContractError as error:
        return Finding("contract", "failed", str(error))
    return Finding("contract", "ok", "every operation has a handler")


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(settings.database_url)
    except OSError as error:
        yield Finding("database", "failed", _one_line(error))
        return
    try:
        now, there = datetime.now(UTC), database.clock()
        yield Finding("database", "ok", "reachable")
        version = database.schema_version()
    except DatabaseUnavailable as error:
        yield Finding("database", "failed", error.reason)
        return
    finally:
        database.dispose()
    fault = schema_fault(version)
    if fault is None:
        text = f"version {version}; this release makes {newest_version()}"
        yield Finding("schema", "ok", text)
    elif settings.is_embedded and version is None:
        yield Finding("schema", "note", "the database is empty, and serve migrates it")
    else:
        yield Finding("schema", "failed", fault)
    if settings.is_embedded:
        # SQLite reads the clock of this machine.
        return
    skew = (there - now).total_seconds()
    text = f"{abs(skew):.1f} s {'ahead of' if skew < 0 else 'behind'} the clock of the database"
    yield Finding("clock", "ok" if abs(skew) < _SKEW_SECONDS else "failed", text)


def _pooler(url: str, pooler_url: str) -> Finding:
    database, pooled = Database(url), Database(pooler_url, is_pooled=True)
    try:
        if (fault := pooled.fault()) is not None:
            return Finding("pooler", "failed", fault)
        if pooled.place() != database.place():
            text = "it leads to another server or database than DATABASE_URL"
            return Finding("pooler", "failed", text)
    except DatabaseUnavailable as error:
        return Finding("pooler", "failed", error.reason)
    finally:
        database.dispose()
        pooled.dispose()
    return Finding("pooler", "ok", "reachable, and the role has the settings that it needs")


def _replica(url: str, replica_url: str) -> Finding:
    replica, database = Database(replica_url), ReplicatedDatabase(url, replica_url)
    try:
        if (copied := replica.schema_version()) != (version := database.schema_version()):
            text = f"its schema has version {copied}, but that of the database has {version}"
            return Finding("replica", "failed", text)
        database.beat()
    except DatabaseUnavailable as error:
        return Finding("replica", "failed", error.reason)
    except (ReplicaOutdated, SchemaError) as error:
        return Finding("replica", "failed", str(error))
    finally:
        replica.dispose()
        database.dispose()
    return Finding("replica", "ok", f"{database.age():.1f} s behind the database")


def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        several = settings.workers > 1
        text = "not set: each process counts rate limits for itself; set REDIS_URL"
        return Finding("Redis", "note", text if several else "not set, and one worker needs none")
    import redis  # noqa: PLC0415 - of no use without Redis.

    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
    )
    try:
        client.ping()
    except redis.RedisError as error:
        return Finding("Redis", "failed", _one_line(error))
    finally:
        client.close()
    return Finding("Redis", "ok", "reachable")


def _broker(settings: Settings) -> Finding:
    if settings.broker_url is None:
        return Finding("broker", "ok", "not set, and background work needs none")
    from kombu.connection import Connection  # noqa: PLC0415 - Celery may not be installed.

    try:
        with Connection(settings.broker_url, connect_timeout=_REDIS_SECONDS) as connection:  # type: ignore[no-untyped-call]  # It has no types.
            connection.ensure_connection(max_retries=1, timeout=_REDIS_SECONDS)
    except Exception as error:  # noqa: BLE001 - each transport has its own errors.
        return Finding("broker", "failed", _one_line(error))
    return Finding("broker", "ok", "reachable")


def _storage(settings: Settings) -> Finding:
    fault = FileStore(settings.storage_url).fault()
    if fault is not None:
        return Finding("storage", "failed", fault)
    where = "the bucket" if settings.storage_url.startswith("s3:") else "the folder"
    return Finding("storage", "ok", f"{where} stores, returns and deletes files")


def _mail(settings: Settings, transport: MailService | None) -> Finding:
    if settings.mail_url is None or transport is None:
        return Finding("mail", "note", "not set: messages are not sent; set MAIL_URL")
    try:
        transport.check()
    except (OSError, smtplib.SMTPException) as error:
        return Finding("mail", "failed", _one_line(error))
    return Finding("mail", "ok", f"{urlsplit(settings.mail_url).scheme} accepts messages")


def _key(settings: Settings) -> Finding:
    path = settings.signing_key_file
    if settings.app_env != "production" and not path.exists():
        return Finding("key file", "note", "not there yet: serve creates it")
    try:
        keys = key_file.parse(key_file.read(path)[1])
        key_file.require_private(path)
    except SigningKeyError as error:
        return Finding("key file", "failed", str(error))
    return Finding("key file", "ok", f"the key {keys[0].key.id} signs")


def _proxies(settings: Settings) -> Finding:
    if settings.app_env == "production" and not settings.public_url.startswith("https:"):
        text = "PUBLIC_URL does not start with https://, so links lead to pages without TLS"
        return Finding("proxies", "note", text)
    if not settings.trusted_proxies:
        text = "TRUSTED_PROXIES is not set: behind a proxy, all clients share its rate limits"
        return Finding("proxies", "note", text)
    networks = ", ".join(map(str, settings.trusted_proxies))
    return Finding("proxies", "ok", f"{settings.forwarded_header} is trusted from {networks}")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
