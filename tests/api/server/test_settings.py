"""Settings come from one mapping, are checked together, and say what to change (MISSION M19)."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.server.setting_files import SettingsError, read_secret
from api.server.settings import Settings

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


def test_m19_an_empty_environment_is_development_with_sqlite() -> None:
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


def test_m19_production_names_everything_missing() -> None:
    assert problems(APP_ENV="production") == [
        "DATABASE_URL is missing, and production does not start without it",
        "SIGNING_KEY_FILE is missing, and production does not start without it",
    ]
    assert problems(**PRODUCTION | {"SIGNING_KEY_FILE": " "}) == [
        "SIGNING_KEY_FILE is missing, and production does not start without it"
    ]


def test_m19_production_starts_with_the_required_settings() -> None:
    settings = Settings.from_environment(PRODUCTION)
    assert settings.signing_key_file == Path("/run/secrets/signing-key.pem")
    assert settings.drain_seconds == 5
    assert settings.metrics_port == 0
    assert settings.response_check_sample < 1


def test_an_empty_variable_is_unset() -> None:
    assert Settings.from_environment({"PORT": "", "REDIS_URL": ""}) == Settings()


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    assert Settings().port == 8080
    assert Settings.from_environment({}).port == 8080


def test_settings_are_immutable() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc] # That this is refused is what is tested.


def test_unknown_environment_variables_are_ignored() -> None:
    assert Settings.from_environment({"PATH": "/bin", "port": "1"}) == Settings()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:9000"),  # noqa: S104 - a wildcard is the case that is tested.
        ("::", "http://[::1]:9000"),
        ("::1", "http://[::1]:9000"),
        ("[::1]", "http://[::1]:9000"),
        ("concord.internal", "http://concord.internal:9000"),
        ("b\u00fccher.example", "http://xn--bcher-kva.example:9000"),
    ],
)
def test_the_public_url_defaults_to_the_listening_address(host: str, url: str) -> None:
    assert Settings.from_environment({"HOST": host, "PORT": "9000"}).public_url == url


@pytest.mark.parametrize("path", ["", "/shop", "/shop/v2_b-c"])
def test_a_public_url_has_no_trailing_slash(path: str) -> None:
    settings = Settings.from_environment({"PUBLIC_URL": f"https://Api.Example.com:8443{path}/"})
    assert settings.public_url == f"https://api.example.com:8443{path}"


@pytest.mark.mission("M24")
def test_mail_is_written_to_a_folder_without_a_server() -> None:
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
def test_the_sender_defaults_to_the_host_of_the_public_url(url: str, address: str) -> None:
    assert Settings.from_environment({"PUBLIC_URL": url}).mail_from == address


def test_the_domain_of_a_sender_is_ascii() -> None:
    settings = Settings.from_environment({"MAIL_FROM": "post@ex\u00e4mple.com"})
    assert settings.mail_from == "post@xn--exmple-cua.com"
    assert Settings(mail_from="post@b\u00fccher.local").mail_from == "post@xn--bcher-kva.local"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://B\u00fccher.example/", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://api.example.com:443", "https://api.example.com"),
        ("http://[0:0::1]:80", "http://[::1]"),
        ("http://192.0.2.1:80", "http://192.0.2.1"),
        ("https://4.example.", "https://4.example."),
        ("HTTP://Api.Example.com:8443", "http://api.example.com:8443"),
    ],
)
def test_hosts_are_read_as_browsers_send_them(given: str, read: str) -> None:
    settings = Settings.from_environment({"PUBLIC_URL": given, "CORS_ORIGINS": given.rstrip("/")})
    assert settings.public_url == read
    assert settings.cors_origins == (read,)


@pytest.mark.parametrize(
    "origin",
    [
        *("capacitor://localhost", "tauri://localhost", "ionic://localhost:8100"),
        *("chrome-extension://abcdefghijklmnop", "moz-extension://0f6c1c5e-1f2b-4b62-a0d2-3bd0a1"),
    ],
)
def test_origins_of_apps_and_extensions_are_allowed(origin: str) -> None:
    assert Settings.from_environment({"CORS_ORIGINS": origin}).cors_origins == (origin,)


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
        ("STORAGE_READS", "direct"),
        ("PORT", "eighty"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("DATABASE_URL", "mysql://localhost/concord"),
        ("HOST", "0.0.0.0:8080"),
        ("HOST", "[::1]:8080"),
        ("HOST", "http://127.0.0.1"),
        ("HOST", "two words"),
        ("HOST", "-\u00fc.example"),
        ("DATABASE_URL", "postgresql://localhost"),
        ("DATABASE_URL", "postgresql://localhost/concord?sslmod=require"),
        ("DATABASE_URL", "postgresql://u:p@a,b/concord"),
        ("DATABASE_URL", "postgresql:///concord?host=a,b&target_session_attrs=any"),
        ("DATABASE_URL", "postgresql://u:p@a,b:port/concord?target_session_attrs=read-write"),
        ("DATABASE_URL", "postgresql://u:p@a,:1/concord?target_session_attrs=read-write"),
        ("DATABASE_URL", "sqlite:concord.db"),
        ("DATABASE_URL", "sqlite:/concord.db"),
        ("DATABASE_URL", "sqlite:///concord.db?timeout=5"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///%3Amemory%3A"),
        ("DATABASE_URL", "sqlite:///file::memory:"),
        ("DATABASE_URL", "sqlite:///file::memory:?cache=shared"),
        ("DATABASE_URL", "postgresql://u:p@ss@localhost/concord"),
        ("DATABASE_URL", "postgresql://u:p@ss/word@localhost:port/concord"),
        ("DATABASE_POOLER_URL", "mysql://localhost/concord"),
        ("DATABASE_POOLER_URL", "postgresql://localhost/concord"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://localhost/x"),
        ("REDIS_URL", "redis://localhost/0?socket_timeout=x"),
        ("REDIS_URL", "unix://"),
        ("PUBLIC_URL", "api.example.com"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://a..example"),
        ("PUBLIC_URL", f"https://{'a' * 64}.example"),
        ("PUBLIC_URL", f"https://{'a.' * 126}example"),
        ("PUBLIC_URL", "https://256.0.0.1"),
        ("HOST", "256.0.0.1"),
        ("PUBLIC_URL", "https://user:pass@example.com"),
        ("PUBLIC_URL", "https://exa%6Dple.com"),
        ("PUBLIC_URL", "https://xn--.\u2603.example"),
        ("PUBLIC_URL", "https://example.com/?a=b"),
        ("PUBLIC_URL", "https://example.com/a//b"),
        ("PUBLIC_URL", "https://example.com/a%20b"),
        ("PUBLIC_URL", "https://example.com/../b"),
        ("PUBLIC_URL", f"https://example.com/{'a' * 100}"),
        ("PUBLIC_URL", "https://exa\nmple.com"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "127.0.0.1,0.0.0.0/0"),
        ("TRUSTED_PROXIES", "::/0"),
        ("FORWARDED_HEADER", "X-Real-IP"),
        ("FORWARDED_HEADER", "Forwarded, X-Forwarded-For"),
        ("TRUST_FORWARDED_HOST", "a.example"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("CORS_ORIGINS", "https://example.com/"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "file://"),
        ("CORS_ORIGINS", "wss://app.example.com"),
        ("CORS_ORIGINS", "capacitor:localhost"),
        ("CORS_ORIGINS", "https://app.example.com?"),
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
def test_m19_an_invalid_value_is_one_line_with_the_variable(name: str, value: str) -> None:
    (line,) = problems(**{name: value})
    assert line.startswith(f"{name} ")


def test_all_invalid_settings_are_reported_at_once() -> None:
    lines = problems(PORT="x", THREADS="0", LOG_LEVEL="loud", APP_ENV="live")
    assert [line.split()[0] for line in lines] == ["APP_ENV", "PORT", "THREADS", "LOG_LEVEL"]


def test_a_line_break_after_a_secret_is_ignored() -> None:
    assert read_secret({"ADMIN_PASSWORD": "grey owls \r\n"}, "ADMIN_PASSWORD") == "grey owls "


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


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("postgres://u:p@h/concord?sslmode=require", "postgresql://u:p@h/concord?sslmode=require"),
        ("postgresql://u:a%40%2F b@[::1]:5433/concord", None),
        ("postgresql:///concord?host=/run/postgresql", None),
        ("postgresql://u@%2Frun%2Fpostgresql/concord", None),
        (
            "postgres://u:p,w@a:5433,[::1]/it?target_session_attrs=read-write",
            "postgresql://u:p,w@/it?host=a,::1&port=5433,5432&target_session_attrs=read-write",
        ),
        ("sqlite:////srv/my shop/con%cord#1.db", None),
        ("sqlite:///./:memory:", None),
        ("SQLite:///concord.db", "sqlite:///concord.db"),
        ("Postgres://u:P@h/concord", "postgresql://u:P@h/concord"),
    ],
)
def test_databases_are_named_in_every_usual_way(given: str, read: str | None) -> None:
    assert Settings.from_environment({"DATABASE_URL": given}).database_url == (read or given)


def test_a_mail_folder_may_have_blanks_in_its_name() -> None:
    assert Settings.from_environment({"MAIL_URL": "file:my mail"}).mail_url == "file:my mail"


@pytest.mark.parametrize("name", ["DATABASE_POOLER_URL", "DATABASE_READ_URL"])
def test_a_pooler_and_a_replica_belong_to_postgresql(name: str) -> None:
    url = "postgresql://concord:hunter2-s3cret@pgbouncer:6432/concord"
    settings = Settings.from_environment(PRODUCTION | {name: url})
    assert getattr(settings, name.lower()) == url
    assert "hunter2-s3cret" not in repr(settings)
    for urls in ({name: "sqlite:///a.db"}, {name: url, "DATABASE_URL": "sqlite:///a.db"}):
        assert problems(**PRODUCTION | urls) == [
            f"{name} must start with postgresql://, and so must DATABASE_URL"
        ]


def test_only_reads_of_a_bucket_can_be_presigned() -> None:
    assert problems(STORAGE_READS="presigned") == [
        "STORAGE_READS must be proxied unless STORAGE_URL starts with s3://"
    ]
    assert problems(STORAGE_READS="presigned", STORAGE_URL="nothing") == problems(
        STORAGE_URL="nothing"
    )
    bucket = {"STORAGE_READS": "Presigned", "STORAGE_URL": "s3://pictures"}
    assert Settings.from_environment(bucket).storage_reads == "presigned"


def test_unused_accounts_end_before_the_audit_trail() -> None:
    times = {"UNCLAIMED_SECONDS": "604800", "AUDIT_SECONDS": "691200"}
    assert Settings.from_environment(times).unclaimed_seconds == 604_800
    for audited in ("86400", "604800", "691199"):
        (line,) = problems(**times | {"AUDIT_SECONDS": audited})
        assert line.startswith("UNCLAIMED_SECONDS must be at least a day (86400) less than AUDIT_")
    assert problems(**times | {"AUDIT_SECONDS": "x"}) == problems(AUDIT_SECONDS="x")


SECRET = [name.upper() for name, field in Settings.model_fields.items() if not field.repr]


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    values = {
        "DATABASE_URL": "postgresql://u:hunter2-s3cret@db/concord",
        "REDIS_URL": "redis://:hunter2-s3cret@r",
        "MAIL_URL": "smtp://concord:hunter2-s3cret@mail.example",
    }
    assert set(values) <= set(SECRET)
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in values}
    assert Settings.from_environment(files) == Settings.from_environment(values)


def test_a_secret_that_cannot_be_read_from_its_file_is_refused(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff")
    cases = {"cannot be read": tmp_path / "none", "empty": empty, "UTF-8": binary}
    for reason, file in cases.items():
        lines = problems(**{f"{name}_FILE": str(file) for name in SECRET})
        assert [line.split()[0] for line in lines] == [f"{name}_FILE" for name in SECRET]
        assert all(reason in line for line in lines)
    (line,) = problems(REDIS_URL="redis://r", REDIS_URL_FILE=str(empty))
    assert "remove one" in line


def test_log_levels_are_case_insensitive() -> None:
    assert Settings.from_environment({"LOG_LEVEL": "WARNING"}).log_level == "warning"


@pytest.mark.parametrize(
    ("given", "header"),
    [("", "x-forwarded-for"), ("X-Forwarded-For", "x-forwarded-for"), ("Forwarded", "forwarded")],
)
def test_the_proxy_header_setting_is_case_insensitive(given: str, header: str) -> None:
    assert Settings.from_environment({"FORWARDED_HEADER": given}).forwarded_header == header


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
