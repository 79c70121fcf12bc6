"""Everything about an installation that is not code, in one object that never changes."""

import os
from collections.abc import Callable, Mapping
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

from api.setting_types import (
    DatabaseUrl,
    MailFrom,
    MailUrl,
    Networks,
    Origins,
    PublicUrl,
    RedisUrl,
    own_address,
    own_url,
)

# Where development keeps its data and its key. Production has to name its own.
_DEFAULT_FILES = {
    "database_url": "sqlite:///var/concord.db",
    "signing_key_file": "var/signing-key.pem",
}


class SettingsError(Exception):
    """Settings that the service cannot start with.

    `str` is one line a problem: the variable and what to change. No line holds a value, because
    a value may be a password.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def _by_environment(*, production: float, elsewhere: float) -> Callable[[dict[str, Any]], float]:
    return lambda settings: production if settings["app_env"] == "production" else elsewhere


class Settings(BaseModel):
    """The settings of one application. Durations are in seconds, sizes in bytes.

    Each field is the environment variable of the same name in capitals. Nothing reads the
    environment but `from_environment`, so two applications in one process can differ in anything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    app_env: Literal["development", "test", "production"] = Field(
        "development", description="development, test or production"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    database_url: DatabaseUrl = Field(
        "",
        validate_default=True,
        repr=False,
        description="sqlite:///file or postgresql://user:password@host/database",
    )
    redis_url: RedisUrl | None = Field(
        None, repr=False, description="where rate limits are counted when several processes serve"
    )
    signing_key_file: Path = Field(
        Path(), validate_default=True, description="PEM file of the Ed25519 key that signs tokens"
    )
    public_url: PublicUrl = Field(
        default_factory=own_url, description="where clients reach the service, as links are built"
    )
    mail_url: MailUrl | None = Field(
        default_factory=lambda settings: (
            None if settings["app_env"] == "production" else "file:var/mail"
        ),
        repr=False,
        description="smtp://user:password@host:port, smtps:// or file:folder; where messages go",
    )
    mail_from: MailFrom = Field(
        default_factory=own_address, description="address that messages are from"
    )
    trusted_proxies: Networks = Field(
        (), description="addresses and networks whose X-Forwarded-* headers are believed"
    )
    cors_origins: Origins = Field(
        (), description="origins whose scripts a browser lets use the API"
    )
    max_body_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, le=1024**3, description="largest request body, in bytes"
    )
    workers: int = Field(1, ge=1, le=64, description="processes that serve")
    threads: int = Field(8, ge=1, le=256, description="requests that a process handles at once")
    queue: int = Field(
        256, ge=0, le=10_000, description="requests that wait for a thread before others get 503"
    )
    hashing_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        le=64,
        description="passwords that a process hashes at once",
    )
    header_timeout: float = Field(
        10.0,
        gt=0,
        le=300,
        allow_inf_nan=False,
        description="seconds for a request's headers to arrive",
    )
    body_timeout: float = Field(
        20.0,
        gt=0,
        le=300,
        allow_inf_nan=False,
        description="seconds for a request's body to arrive",
    )
    drain_seconds: float = Field(
        default_factory=_by_environment(production=5.0, elsewhere=0.0),
        ge=0,
        le=20,
        allow_inf_nan=False,
        description="seconds between ceasing to be ready and ceasing to listen",
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = Field("info", description="debug, info, warning or error")
    metrics_port: int = Field(
        default_factory=lambda settings: 9464 if settings["app_env"] == "development" else 0,
        ge=0,
        le=65535,
        description="port of /metrics on the loopback address; 0 for none",
    )
    response_check_sample: float = Field(
        default_factory=_by_environment(production=0.01, elsewhere=1.0),
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="fraction of answers that are checked against the contract",
    )
    idempotency_seconds: int = Field(
        86_400,
        ge=60,
        le=2_592_000,
        description="seconds that the answer to an Idempotency-Key is kept",
    )
    session_idle_seconds: int = Field(
        1_209_600,
        ge=60,
        le=31_622_400,
        description="seconds after which a session that was not refreshed ends",
    )
    session_seconds: int = Field(
        7_776_000,
        ge=60,
        le=31_622_400,
        description="seconds after which a session ends, however often it was refreshed",
    )
    audit_seconds: int = Field(
        31_536_000,
        ge=86_400,
        le=315_360_000,
        description="seconds that what was done to accounts is kept on record",
    )
    admin_second_factor: bool = Field(
        default=False,
        description="whether administrators without a second factor are ordinary users",
    )
    reservation_seconds: int = Field(
        1_800, ge=1, le=2_592_000, description="seconds that an unpaid order keeps its stock"
    )

    @property
    def is_embedded(self) -> bool:
        """Whether the database is a file of this machine, which `serve` keeps migrated."""
        return self.database_url.startswith("sqlite:")

    @field_validator("database_url", "signing_key_file", mode="before")
    @classmethod
    def _must_be_given_in_production(cls, value: object, info: ValidationInfo) -> object:
        if value not in {"", Path()}:
            return value
        if info.data.get("app_env") == "production":
            raise ValueError("is missing, and production does not start without it")
        return _DEFAULT_FILES[str(info.field_name)]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from `environ`, where an empty variable counts as one that is not set.

        Raises:
            SettingsError: with one line for each variable that has to change.
        """
        given = {name: environ.get(name.upper(), "").strip() for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            raise SettingsError(_problems(error)) from None


def _problems(error: ValidationError) -> tuple[str, ...]:
    """One line a variable: the first thing wrong with it, without the value."""
    lines: dict[str, str] = {}
    for problem in error.errors(include_input=False, include_url=False):
        # A default that follows from another variable could not be made; that one has its own line.
        if problem["type"] != "default_factory_not_called":
            reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            lines.setdefault(str(problem["loc"][0]).upper(), reason)
    return tuple(f"{name} {reason}" for name, reason in lines.items())
