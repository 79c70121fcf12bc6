"""The settings of an installation, in one immutable object."""

import math
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from api.contract.serve.forwarding import ForwardedHeader
from api.server.setting_files import SettingsError, read_secret
from api.server.setting_types import (
    BrokerUrl,
    DatabaseUrl,
    ListeningHost,
    MailFrom,
    MailUrl,
    Networks,
    Origins,
    PaymentSecrets,
    PublicUrl,
    RedisUrl,
    StorageUrl,
    own_address,
    own_url,
)

# Default locations for development. Production must set its own.
_DEFAULT_FILES = {
    "database_url": "sqlite:///var/concord.db",
    "signing_key_file": "var/signing-key.pem",
}
_DAY = 86_400


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _by_environment(*, production: float, elsewhere: float) -> Callable[[dict[str, Any]], float]:
    return lambda settings: production if settings["app_env"] == "production" else elsewhere


class Settings(BaseModel):
    """The settings of one application. Durations are in seconds, sizes in bytes.

    Each field is read from the environment variable of the same name in capitals. Only
    `from_environment` reads the environment, so applications in one process can have different
    settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    app_env: Literal["development", "test", "production"] = Field(
        "development", description="development, test or production"
    )
    host: ListeningHost = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 selects a free port")
    database_url: DatabaseUrl = Field(
        "",
        validate_default=True,
        repr=False,
        description="database: sqlite:///file or postgresql://user:password@host/database",
    )
    database_pooler_url: DatabaseUrl | None = Field(
        None,
        repr=False,
        description="PgBouncer in transaction mode, through which `serve` and `work` connect",
    )
    database_read_url: DatabaseUrl | None = Field(
        None, repr=False, description="streaming replica for anonymous reads of the catalogue"
    )
    redis_url: RedisUrl | None = Field(
        None, repr=False, description="Redis server where all processes count rate limits"
    )
    broker_url: BrokerUrl | None = Field(
        None,
        repr=False,
        description="RabbitMQ (amqp://) or Redis (redis://) that hands out work to `work`",
    )
    signing_key_file: Path = Field(
        Path(), validate_default=True, description="PEM file of the Ed25519 key that signs tokens"
    )
    public_url: PublicUrl = Field(
        default_factory=own_url,
        description="base URL of the service, used in links and named first in the contract",
    )
    storage_url: StorageUrl = Field(
        "file:var/files",
        description="file store: file:folder, or s3://bucket?endpoint=https://host&region=name",
    )
    storage_reads: Annotated[Literal["proxied", "presigned"], BeforeValidator(_lower)] = Field(
        "proxied",
        description="proxied: the service sends files; presigned: it redirects clients to S3",
    )
    mail_url: MailUrl | None = Field(
        default_factory=lambda settings: (
            None if settings["app_env"] == "production" else "file:var/mail"
        ),
        repr=False,
        description="mail transport: smtp://user:password@host:port, smtps:// or file:folder",
    )
    allow_local_email: bool = Field(
        default=False, description="accept email addresses of domains below .local"
    )
    mail_from: MailFrom = Field(
        default_factory=own_address, description="sender address of messages"
    )
    trusted_proxies: Networks = Field(
        (), description="addresses and networks of the proxies in front of the service"
    )
    forwarded_header: Annotated[ForwardedHeader, BeforeValidator(_lower)] = Field(
        "x-forwarded-for",
        description="the only forwarding header that is read: X-Forwarded-For or Forwarded",
    )
    trust_forwarded_host: bool = Field(
        default=False,
        description="build links from the scheme and host that proxies report, not PUBLIC_URL",
    )
    cors_origins: Origins = Field((), description="origins that may use the API from a browser")
    max_body_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=1024**3,
        description="largest request body of any operation, in bytes",
    )
    workers: int = Field(1, ge=1, le=64, description="number of server processes")
    threads: int = Field(
        8, ge=1, le=256, description="reads that a process handles concurrently, and writes besides"
    )
    queue: int = Field(
        256,
        ge=0,
        le=10_000,
        description="requests that may wait for a thread; further requests get 503",
    )
    hashing_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=64,
        description="threads that hash passwords; sign-ups have half as many of their own",
    )
    header_timeout: float = Field(
        10.0,
        gt=0,
        le=300,
        allow_inf_nan=False,
        description="time limit for receiving the headers of a request",
    )
    body_timeout: float = Field(
        20.0,
        gt=0,
        le=300,
        allow_inf_nan=False,
        description="time limit for receiving the body of a request",
    )
    drain_seconds: float = Field(
        default_factory=_by_environment(production=5.0, elsewhere=0.0),
        ge=0,
        le=20,
        allow_inf_nan=False,
        description="time between reporting not ready and closing the socket",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field("info", description="debug, info, warning or error")
    )
    metrics_port: int = Field(
        default_factory=lambda settings: 9464 if settings["app_env"] == "development" else 0,
        ge=0,
        le=65535,
        description="port of /metrics for all workers; 0 disables it",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address of /metrics, which requires no authentication",
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        description="OpenTelemetry collector that receives traces over HTTP; needs the extra otel",
    )
    response_check_sample: float = Field(
        default_factory=_by_environment(production=0.01, elsewhere=1.0),
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="fraction of responses that are validated against the contract",
    )
    idempotency_seconds: int = Field(
        86_400,
        ge=60,
        le=2_592_000,
        description="retention of responses to requests with an Idempotency-Key",
    )
    session_idle_seconds: int = Field(
        1_209_600, ge=60, le=31_622_400, description="lifetime of a session without a refresh"
    )
    session_seconds: int = Field(
        7_776_000,
        ge=60,
        le=31_622_400,
        description="maximum lifetime of a session, even with refreshes",
    )
    refresh_grace_seconds: int = Field(
        10,
        ge=0,
        le=3_600,
        description="time in which a refresh token can be sent again if the response was lost",
    )
    audit_seconds: int = Field(
        31_536_000, ge=86_400, le=315_360_000, description="retention of audit events"
    )
    events_seconds: int = Field(
        2_592_000, ge=604_800, le=315_360_000, description="retention of events in the feed"
    )
    unclaimed_seconds: int | None = Field(
        None,
        ge=604_800,
        le=315_360_000,
        description="retention of unverified accounts without sign-ins and orders; unset: kept",
    )
    order_personal_data_seconds: int | None = Field(
        None,
        ge=2_592_000,
        le=315_360_000,
        description="retention of personal data in orders that have ended; unset: kept",
    )
    admin_second_factor: bool = Field(
        default=False, description="require a second factor for administrator rights"
    )
    reservation_seconds: int = Field(
        1_800, ge=1, le=2_592_000, description="time that an unpaid order reserves its stock"
    )
    payment_secrets: PaymentSecrets = Field(
        (),
        repr=False,
        description="secrets that sign the events of payment providers: stripe=whsec_…,other=…",
    )

    @property
    def events_kept(self) -> timedelta:
        """The retention of events in the feed."""
        return timedelta(seconds=self.events_seconds)

    @property
    def is_embedded(self) -> bool:
        """Whether the database is a local file, which `serve` migrates."""
        return self.database_url.startswith("sqlite:")

    @field_validator("database_url", "signing_key_file", mode="before")
    @classmethod
    def _must_be_given_in_production(cls, value: object, info: ValidationInfo) -> object:
        if value not in {"", Path()}:
            return value
        if info.data.get("app_env") == "production":
            raise ValueError("is missing, and production does not start without it")
        return _DEFAULT_FILES[str(info.field_name)]

    @field_validator("database_pooler_url", "database_read_url")
    @classmethod
    def _must_lead_to_postgresql(cls, value: str, info: ValidationInfo) -> str:
        urls = (value, info.data.get("database_url", ""))
        if any(url.startswith("sqlite:") for url in urls):
            raise ValueError("must start with postgresql://, and so must DATABASE_URL")
        return value

    @field_validator("unclaimed_seconds")
    @classmethod
    def _must_fit_the_audit_trail(cls, value: int, info: ValidationInfo) -> int:
        # Accounts older than the audit trail are kept, and the job that looks for them runs hourly.
        if value > info.data.get("audit_seconds", math.inf) - _DAY:
            raise ValueError(
                "must be at least a day (86400) less than AUDIT_SECONDS, because only the audit "
                "trail shows whether anybody has signed in"
            )
        return value

    @field_validator("storage_reads")
    @classmethod
    def _must_fit_the_store(cls, value: str, info: ValidationInfo) -> str:
        if value == "presigned" and info.data.get("storage_url", "s3:").startswith("file:"):
            raise ValueError("must be proxied unless STORAGE_URL starts with s3://")
        return value

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from `environ`; an empty variable counts as unset.

        The variables with secrets, whose fields are left out of `repr`, may instead be in files.

        Raises:
            SettingsError: some variables are missing or invalid; the message has a line for each.
        """
        given: dict[str, str] = {}
        faults: list[str] = []
        for name, field in cls.model_fields.items():
            variable = name.upper()
            try:
                value = environ.get(variable, "") if field.repr else read_secret(environ, variable)
            except SettingsError as error:
                faults += error.problems
                continue
            if value.strip():
                given[name] = value.strip()
        if faults:
            raise SettingsError(tuple(faults))
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError(_problems(error)) from None


def _problems(error: ValidationError) -> tuple[str, ...]:
    """Return one line per variable: the first problem with it, without the value."""
    lines: dict[str, str] = {}
    for problem in error.errors(include_input=False, include_url=False):
        # A default that depends on an invalid variable is not reported; that variable has its own
        # line.
        if problem["type"] != "default_factory_not_called":
            reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            lines.setdefault(str(problem["loc"][0]).upper(), reason)
    return tuple(f"{name} {reason}" for name, reason in lines.items())
