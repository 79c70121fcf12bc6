"""Structured logs: one event per line on standard error, from a logger per application.

No value can end a line or move a terminal's cursor: unprintable characters are escaped, so that no
client can forge an event (OWASP ASVS 5.0, V16.4.1).
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO, TypeAlias

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from api.server.settings import Settings

Logger: TypeAlias = FilteringBoundLogger

REDACTED = "[redacted]"

_SECRET = re.compile(
    r"password|passphrase|secret|token|authorization|cookie|credential|(api|private|signing)_?key"
    r"|(database|redis|mail)_url",
    re.IGNORECASE,
)


def make_logger(settings: Settings, stream: TextIO | None = None) -> Logger:
    """Return a logger that writes to `stream`, by default standard error.

    Production logs are JSON, all others are formatted for people. Nothing is configured for the
    whole process, so each application has its own level and format.
    """
    render = _render_json if settings.app_env == "production" else _render_for_people
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            _complete,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    ).bind()
    return logger


class StandardLogs(logging.Handler):
    """A `logging` handler that forwards the records of libraries to a structured logger.

    The root logger is shared by the whole process, so only the command line installs this handler,
    never an application.
    """

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record with its traceback and the name of its logger."""
        try:
            self._logger.log(
                record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001 - as `logging` asks of a handler: a log never fails its caller.
            self.handleError(record)


_SCALARS = frozenset((str, int, float, bool, type(None)))


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: REDACTED if _is_secret(str(key)) else _without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_without_secrets(item) for item in value]
    return value


def _complete(logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """Add the time, level and event name at the front, and redact secrets."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, level, event)
    complete = {"timestamp": "", "level": "", "event": "", **event}
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    complete["timestamp"] = now.removesuffix("+00:00") + "Z"
    complete["level"] = level
    for key, value in complete.items():
        if _is_secret(key):
            complete[key] = REDACTED
        elif type(value) not in _SCALARS:
            complete[key] = _without_secrets(value)
    return complete


def _escape(character: str) -> str:
    """Escape a character as JSON does, by its UTF-16 code units."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _escape(character) for character in text
    )


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        line = orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # orjson refuses lone surrogates and integers of more than 64 bits, but a log must accept
        # them.
        line = json.dumps(event, default=repr, skipkeys=True)
    return _printable(line)


def _for_people(value: object) -> str:
    """Return a value as text, quoted if it would be ambiguous."""
    text = value if isinstance(value, str) else repr(value)
    if isinstance(value, str) and (not text or any(mark in text for mark in " =\"'")):
        text = json.dumps(text, ensure_ascii=False)
    return _printable(text)


def _render_for_people(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    time, level = event.pop("timestamp")[11:23], event.pop("level")
    name, traceback = _printable(str(event.pop("event"))), event.pop("exception", "")
    values = " ".join(f"{key}={_for_people(value)}" for key, value in event.items())
    line = f"{time} {level:<8} {name} {values}".rstrip()
    # A bar before each line of a traceback keeps a multi-line message from looking like an event.
    return "\n    | ".join([line, *(_printable(part) for part in traceback.splitlines())])
