"""Settings come from one mapping, are checked together, and say what to change (MISSION M19)."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import Settings, SettingsError

PRODUCTION = {
    "APP_ENV": "production",
    "DATABASE_URL": "postgresql://concord:hunter2-s3cret@db/concord",
    "SIGNING_KEY_FILE": "/run/secrets/signing-key.pem",
}


def problems(**environ: str) -> list[str]:
    """What is said of an environment that is refused."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environ)
    return str(refused.value).splitlines()


def test_m19_an_empty_environment_is_development_with_an_embedded_database() -> None:
    settings = Settings.from_environment({})
    assert settings.app_env == "development"
    assert settings.database_url == "sqlite:///var/concord.db"
    assert settings.signing_key_file == Path("var/signing-key.pem")
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.max_body_bytes == 16 * 1024 * 1024
    assert settings.cors_origins == ()
    assert settings.trusted_proxies == ()
    assert settings.hashing_threads >= 1
    assert settings.drain_seconds == 0
    assert settings.response_check_sample == 1


def test_m19_production_names_everything_that_is_missing() -> None:
    assert problems(APP_ENV="production") == [
        "DATABASE_URL is missing, and production does not start without it",
        "SIGNING_KEY_FILE is missing, and production does not start without it",
    ]
    assert problems(**PRODUCTION | {"SIGNING_KEY_FILE": " "}) == [
        "SIGNING_KEY_FILE is missing, and production does not start without it"
    ]


def test_m19_production_starts_with_what_it_must_be_given() -> None:
    settings = Settings.from_environment(PRODUCTION)
    assert settings.signing_key_file == Path("/run/secrets/signing-key.pem")
    assert settings.drain_seconds == 5
    assert settings.metrics_port == 0
    assert settings.response_check_sample < 1


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert Settings.from_environment({"PORT": "", "REDIS_URL": ""}) == Settings()


def test_the_environment_of_the_process_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    assert Settings().port == 8080
    assert Settings.from_environment({}).port == 8080


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc] # That this is refused is what is tested.


def test_other_variables_of_the_environment_are_ignored() -> None:
    assert Settings.from_environment({"PATH": "/bin", "port": "1"}) == Settings()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:9000"),  # noqa: S104 - a wildcard is the case that is tested.
        ("::", "http://[::1]:9000"),
        ("::1", "http://[::1]:9000"),
        ("concord.internal", "http://concord.internal:9000"),
    ],
)
def test_the_public_url_follows_from_where_the_service_listens(host: str, url: str) -> None:
    assert Settings.from_environment({"HOST": host, "PORT": "9000"}).public_url == url


def test_a_public_url_has_no_slash_at_its_end() -> None:
    settings = Settings.from_environment({"PUBLIC_URL": "https://api.example.com:8443/"})
    assert settings.public_url == "https://api.example.com:8443"


@pytest.mark.mission("M24")
def test_mail_goes_into_a_folder_until_there_is_a_server() -> None:
    assert Settings.from_environment({}).mail_url == "file:var/mail"
    assert Settings.from_environment({"APP_ENV": "test"}).mail_url == "file:var/mail"
    assert Settings.from_environment(PRODUCTION).mail_url is None
    url = "smtp://user%40mail:a%2Fb@mail.example:2525"
    assert Settings.from_environment({"MAIL_URL": url}).mail_url == url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://shop.example.com", "concord@shop.example.com"),
        ("http://127.0.0.1:8080", "concord@[127.0.0.1]"),
        ("http://[::1]:8080", "concord@[IPv6:::1]"),
        ("http://localhost:8080", "concord@localhost"),
    ],
)
def test_mail_is_from_the_host_that_its_links_lead_to(url: str, address: str) -> None:
    assert Settings.from_environment({"PUBLIC_URL": url}).mail_from == address


def test_the_domain_of_a_sender_is_written_so_that_every_server_takes_it() -> None:
    settings = Settings.from_environment({"MAIL_FROM": "post@ex\u00e4mple.com"})
    assert settings.mail_from == "post@xn--exmple-cua.com"


def test_lists_are_separated_by_commas() -> None:
    settings = Settings.from_environment(
        {
            "TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8,,fd00::/8",
            "CORS_ORIGINS": "https://App.example.com, http://localhost:3000",
        }
    )
    assert settings.trusted_proxies == (
        ip_network("127.0.0.1"),
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
    )
    assert settings.cors_origins == ("https://app.example.com", "http://localhost:3000")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ENV", "prod"),
        ("PORT", "eighty"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("DATABASE_URL", "mysql://localhost/concord"),
        ("DATABASE_URL", "postgresql://localhost"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "postgresql://u:p@ss/word@localhost:port/concord"),
        ("REDIS_URL", "localhost:6379"),
        ("PUBLIC_URL", "api.example.com"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://user:pass@example.com"),
        ("PUBLIC_URL", "https://example.com/?a=b"),
        ("PUBLIC_URL", "https://example.com/concord"),
        ("PUBLIC_URL", "https://exa\nmple.com"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "127.0.0.1,0.0.0.0/0"),
        ("TRUSTED_PROXIES", "::/0"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("CORS_ORIGINS", "https://example.com/"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "https://user@example.com"),
        ("MAIL_URL", "mail.example"),
        ("MAIL_URL", "http://mail.example"),
        ("MAIL_URL", "smtp://"),
        ("MAIL_URL", "smtp://user@mail.example"),
        ("MAIL_URL", "smtp://user:pass/word@mail.example"),
        ("MAIL_URL", "smtp://mail.example:99999"),
        ("MAIL_URL", "smtp://mail.example/?tls=no"),
        ("MAIL_URL", "file:"),
        ("MAIL_URL", "file://host/var/mail"),
        ("MAIL_FROM", "Concord <post@example.com>"),
        ("MAIL_FROM", "post@example.com, other@example.com"),
        ("MAIL_FROM", "p\u00f6st@example.com"),
        ("MAX_BODY_BYTES", "16 MiB"),
        ("WORKERS", "0"),
        ("THREADS", "0"),
        ("QUEUE", "-1"),
        ("HASHING_THREADS", "0"),
        ("BODY_TIMEOUT", "0"),
        ("BODY_TIMEOUT", "inf"),
        ("HEADER_TIMEOUT", "nan"),
        ("DRAIN_SECONDS", "60"),
        ("LOG_LEVEL", "loud"),
        ("METRICS_PORT", "70000"),
        ("RESPONSE_CHECK_SAMPLE", "2"),
    ],
)
def test_m19_a_bad_value_is_refused_in_one_line_that_names_the_variable(
    name: str, value: str
) -> None:
    (line,) = problems(**{name: value})
    assert line.startswith(f"{name} ")


def test_every_problem_is_said_at_once() -> None:
    lines = problems(PORT="x", THREADS="0", LOG_LEVEL="loud", APP_ENV="live")
    assert [line.split()[0] for line in lines] == ["APP_ENV", "PORT", "THREADS", "LOG_LEVEL"]


def test_no_secret_is_shown() -> None:
    secrets = {
        "REDIS_URL": "redis://:hunter2-s3cret@r",
        "MAIL_URL": "smtp://concord:hunter2-s3cret@mail.example",
    }
    settings = Settings.from_environment(PRODUCTION | secrets)
    assert "hunter2-s3cret" not in repr(settings) + str(settings)
    lines = problems(
        DATABASE_URL="mysql://concord:hunter2-s3cret@db/concord",
        REDIS_URL="http://:hunter2-s3cret@r",
        MAIL_URL="smtp://concord:hunter2-s3cret@",
    )
    assert len(lines) == 3
    assert "hunter2-s3cret" not in "".join(lines)
    with pytest.raises(ValidationError) as refused:
        Settings(database_url="mysql://concord:hunter2-s3cret@db/concord")
    assert "hunter2-s3cret" not in str(refused.value)


def test_log_levels_are_read_in_any_case() -> None:
    assert Settings.from_environment({"LOG_LEVEL": "WARNING"}).log_level == "warning"


def test_every_setting_has_a_description_for_the_readme() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
