"""Each event is one line, whatever its values contain, and contains no secret."""

import io
import json
import logging
from pathlib import Path

import pytest

from api.server.logs import REDACTED, Logger, StandardLogs, make_logger
from api.server.settings import Settings

HOSTILE = "a\r\nb\x1b[31m\x00\x7f\x85\u2028\u202e\ud800\U000e0001"


def production() -> Settings:
    return Settings(
        app_env="production", database_url="sqlite:///x", signing_key_file=Path("key.pem")
    )


def logger_and_output(settings: Settings) -> tuple[Logger, io.StringIO]:
    output = io.StringIO()
    return make_logger(settings, output), output


@pytest.fixture(params=["development", "production"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return production() if request.param == "production" else Settings()


def test_production_logs_json() -> None:
    logger, output = logger_and_output(production())
    logger.info("request", operation="list_users", status=200, seconds=0.25, caller=None)
    event = json.loads(output.getvalue())
    assert list(event)[:3] == ["timestamp", "level", "event"]
    assert event["timestamp"].endswith("Z")
    assert (event["level"], event["event"], event["caller"]) == ("info", "request", None)
    assert (event["operation"], event["status"], event["seconds"]) == ("list_users", 200, 0.25)


def test_development_logs_for_people() -> None:
    logger, output = logger_and_output(Settings())
    logger.warning("request", operation="list_users", status=200, reason="not found", empty="")
    time, _, rest = output.getvalue().partition(" ")
    assert time.count(":") == 2
    assert rest == (
        'warning  request operation=list_users status=200 reason="not found" empty=""\n'
    )


def test_trust42_no_value_can_end_a_line_or_move_the_cursor(settings: Settings) -> None:
    logger, output = logger_and_output(settings)
    logger.info(HOSTILE, value=HOSTILE, nested={"list": [HOSTILE]}, other=ValueError(HOSTILE))
    text = output.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert "\\u2028" in text
    if settings.app_env == "production":
        assert json.loads(text)["value"] == HOSTILE


def test_a_log_accepts_any_value(settings: Settings) -> None:
    logger, output = logger_and_output(settings)
    logger.info("odd", integer=2**70, bytes=b"\xff", keys={1: 2}, object=settings, set={1})
    assert output.getvalue().count("\n") == 1
    if settings.app_env == "production":
        assert json.loads(output.getvalue())["integer"] == 2**70


def fail(message: str) -> None:
    raise RuntimeError(message)


def test_a_production_traceback_is_a_member_of_its_event() -> None:
    logger, output = logger_and_output(production())
    try:
        fail("boom")
    except RuntimeError:
        logger.exception("failed", request_id="r1")
    (line,) = output.getvalue().splitlines()
    event = json.loads(line)
    assert event["request_id"] == "r1"
    assert event["exception"].startswith("Traceback (most recent call last)")
    assert event["exception"].endswith("RuntimeError: boom")


def test_a_message_in_a_traceback_cannot_look_like_an_event() -> None:
    logger, output = logger_and_output(Settings())
    try:
        fail("boom\n12:00:00.000 info     request status=200\r\x1b[2K")
    except RuntimeError:
        logger.exception("failed")
    first, *others = output.getvalue().removesuffix("\n").split("\n")
    assert first.endswith(" error    failed")
    assert len(others) > 3
    assert all(line.startswith("    | ") and line.isprintable() for line in others)


@pytest.mark.parametrize(
    "name",
    ["password", "current_Password", "access_token", "Authorization", "set-cookie", "signing_key"],
)
def test_trust42_secrets_are_redacted_by_name(settings: Settings, name: str) -> None:
    logger, output = logger_and_output(settings)
    logger.info("signed in", **{name: "canary"}, headers=[{name: "canary"}], email="a@example.com")
    assert "canary" not in output.getvalue()
    assert REDACTED in output.getvalue()
    assert "a@example.com" in output.getvalue()


def test_bound_context_is_in_every_event() -> None:
    logger, output = logger_and_output(production())
    bound = logger.bind(request_id="r1")
    bound.info("one")
    logger.info("two")
    one, two = map(json.loads, output.getvalue().splitlines())
    assert one["request_id"] == "r1"
    assert "request_id" not in two


def test_m2_two_applications_have_their_own_log_levels() -> None:
    quiet, quiet_output = logger_and_output(Settings(log_level="error"))
    loud, loud_output = logger_and_output(Settings(log_level="debug"))
    for logger in (quiet, loud):
        logger.debug("detail")
    assert quiet_output.getvalue() == ""
    assert "detail" in loud_output.getvalue()


def test_library_logs_use_the_same_format() -> None:
    logger, output = logger_and_output(production())
    library = logging.Logger("some.library")  # noqa: LOG001 - the table of loggers of the process stays as it is.
    library.addHandler(StandardLogs(logger))
    try:
        fail("boom")
    except RuntimeError:
        library.exception("failed %s\n", "badly")
    library.debug("not asked for")
    event = json.loads(output.getvalue())
    assert (event["event"], event["logger"], event["level"]) == (
        "failed badly\n",
        "some.library",
        "error",
    )
    assert event["exception"].endswith("RuntimeError: boom")
