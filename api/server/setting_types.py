"""Types of settings: addresses, URLs and lists of them, and some defaults.

Each message says what to change and never repeats the value, which may contain a password.
"""

import re
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import idna
from pydantic import AfterValidator, BeforeValidator

from api.providers.payment_reports import STRIPE
from api.providers.signatures import decode_secret

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
# Browsers read a host whose last label is a number as an IPv4 address.
_HOST = re.compile(rf"(?!.{{254}})({_LABEL}\.)*(?![0-9]+\.?$){_LABEL}\.?")
_PROVIDER = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_SHORTEST_SECRET = 24
_PATH = re.compile(r"(?!.{101})(/[A-Za-z0-9_-]+)*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SEVERAL_HOSTS = re.compile(
    r"(postgres(?:ql)?(?:\+psycopg)?://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)(/[^?#]*)\??(.*)"
)
_WRITABLE = frozenset({"read-write", "primary"})
"""Values of libpq's `target_session_attrs` that select the primary server."""
_OPAQUE = frozenset({"about", "blob", "data", "file", "javascript", "ws", "wss"})
"""Schemes whose pages and scripts send no origin but `null`."""


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        network = ip_network(value)
    except ValueError:
        message = (
            "must list IP addresses or networks such as 10.0.0.0/8, separated by commas, "
            "with no bit of a network set after its prefix"
        )
        raise ValueError(message) from None
    if network.prefixlen == 0:
        raise ValueError("must not contain a network of all addresses, which would trust everyone")
    return network


def _url(
    value: str, schemes: tuple[str, ...], message: str, *, blanks: bool = False
) -> SplitResult:
    if not value.isprintable() or (" " in value and not blanks):
        raise ValueError(message)
    try:
        url = urlsplit(value)
        # Reading the port validates it.
        valid = url.scheme in schemes and url.port != 0
    except ValueError:
        raise ValueError(message) from None
    if not valid:
        raise ValueError(message)
    return url


def _lower_scheme(value: str) -> str:
    scheme, colon, rest = value.partition(":")
    return f"{scheme.lower()}{colon}{rest}"


def _database_url(value: str) -> str:
    schemes = ("sqlite", "postgres", "postgresql", "postgresql+psycopg")
    message = (
        "must be sqlite:///file or postgresql://user:password@host:port/database, "
        "with characters such as @ and / in the password percent-encoded"
    )
    value = _with_one_host(value, message)
    url = _url(value, schemes, message, blanks=True)
    if url.path in {"", "/"}:
        raise ValueError(message)
    if url.scheme == "sqlite":
        if not value.startswith("sqlite:///"):
            raise ValueError("must have three slashes before the file: sqlite:///concord.db")
        if url.query:
            raise ValueError("must not have options after the file of SQLite")
        if unquote(url.path).startswith(("/:", "/file:")):
            raise ValueError("must name a file, such as sqlite:///concord.db, and not memory")
        return value
    # An @ after the host is the rest of a password with an unescaped slash, and a second one before
    # it belongs to the password.
    if "@" in url.path or url.netloc.count("@") > 1:
        raise ValueError(message)
    _check_libpq_options(url.query)
    options = dict(parse_qsl(url.query))
    if "," in options.get("host", "") and options.get("target_session_attrs") not in _WRITABLE:
        raise ValueError("must have ?target_session_attrs=read-write if it names several hosts")
    # libpq and most hosting providers also accept this name.
    return value.replace("postgres://", "postgresql://", 1) if url.scheme == "postgres" else value


def _with_one_host(value: str, message: str) -> str:
    """Move several hosts, as libpq accepts them, into the query, as SQLAlchemy accepts them."""
    match = _SEVERAL_HOSTS.fullmatch(value)
    if match is None:
        return value
    start, hosts, path, query = match.groups()
    servers = [_url(f"postgresql://{host}", ("postgresql",), message) for host in hosts.split(",")]
    if not all(server.hostname for server in servers):
        raise ValueError(message)
    names = ",".join(server.hostname or "" for server in servers)
    ports = ",".join(str(server.port or 5432) for server in servers)
    return f"{start}{path}?host={names}&port={ports}&{query}"


def _check_libpq_options(query: str) -> None:
    from models.storage.postgresql import knows_option  # noqa: PLC0415 - its driver takes 10 MB, of no use to SQLite.

    if not all(knows_option(name) for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise ValueError("must not have an option after the ? that libpq does not know")


def _redis_url(value: str) -> str:
    from redis.asyncio.connection import parse_url  # noqa: PLC0415 - of no use without Redis.

    message = "must be redis://host:port/number, rediss:// or unix://"
    url = _url(value, ("redis", "rediss", "unix"), message)
    try:
        parse_url(value)
    except ValueError:
        raise ValueError(message) from None
    number = url.path.removeprefix("/")
    # Clients of Redis silently use database 0 for a path that is no number.
    if url.scheme != "unix" and not (number == "" or (number.isascii() and number.isdecimal())):
        raise ValueError(message)
    if not (url.path if url.scheme == "unix" else url.hostname):
        raise ValueError(message)
    return value


def _broker_url(value: str) -> str:
    if find_spec("celery") is None:
        raise ValueError("needs the packages of requirements-all.txt")
    message = "must be amqp://user:password@host:port/vhost, amqps:// or redis://host:port/number"
    url = _url(value, ("amqp", "amqps", "redis", "rediss"), message)
    if not url.hostname:
        raise ValueError(message)
    return _redis_url(value) if url.scheme.startswith("redis") else value


def _payment_secret(value: object) -> object:
    if not isinstance(value, str):
        return value
    provider, _, secret = value.partition("=")
    if not _PROVIDER.fullmatch(provider) or not (secret.isascii() and secret.isprintable()):
        raise ValueError("must list secrets as provider=secret, separated by commas")
    if len(secret) < _SHORTEST_SECRET:
        raise ValueError("must have secrets of at least 24 characters")
    if provider != STRIPE:
        try:
            decode_secret(secret)
        except ValueError:
            message = "must have secrets in Base64, after whsec_ or not, except for stripe"
            raise ValueError(message) from None
    return provider, secret


def _ascii_host(name: str, message: str) -> str:
    """Return a host name in lower case, with A-labels for other alphabets (RFC 5891)."""
    try:
        host = name.lower() if name.isascii() else idna.encode(name, uts46=True).decode()
    except UnicodeError:
        raise ValueError(message) from None
    if not _HOST.fullmatch(host):
        raise ValueError(message)
    return host


def _host(name: str, message: str) -> str:
    """Return an IP address in canonical form, or else the name of a host in ASCII."""
    try:
        return str(ip_address(name))
    except ValueError:
        return _ascii_host(name, message)


def _listening_host(value: str) -> str:
    is_bracketed = value.startswith("[") and value.endswith("]")
    message = "must be an IP address or a host name; PORT sets the port"
    return _host(value[1:-1] if is_bracketed else value, message)


def _origin(url: SplitResult, message: str) -> str:
    """Return the scheme, host and port of a URL as browsers send them (RFC 6454, section 6.2)."""
    if not url.hostname or "@" in url.netloc or "*" in url.netloc:
        raise ValueError(message)
    host = _host(url.hostname, message)
    if "[" in url.netloc:
        host = f"[{host}]"
    port = "" if url.port in {None, _DEFAULT_PORTS.get(url.scheme)} else f":{url.port}"
    return f"{url.scheme}://{host}{port}"


def _cors_origin(value: str) -> str:
    message = (
        "must list origins such as https://app.example.com:8443 or capacitor://localhost, "
        "with no path and no *"
    )
    scheme = value.partition("://")[0].lower()
    if not _SCHEME.fullmatch(scheme):
        raise ValueError(message)
    if scheme in _OPAQUE:
        raise ValueError(f"must not list {scheme} origins, which browsers send as null")
    url = _url(value, (scheme,), message)
    if url.path or url.query or url.fragment or value.endswith(("?", "#")):
        raise ValueError(message)
    return _origin(url, message)


def _public_url(value: str) -> str:
    message = "must be a scheme, a host and perhaps a path, such as https://api.example.com/shop"
    url = _url(value.rstrip("/"), ("http", "https"), message)
    if url.query or url.fragment or value.endswith(("?", "#")):
        raise ValueError(message)
    # Templates, scripts and headers contain the path, so it has no character to escape.
    if not _PATH.fullmatch(url.path):
        raise ValueError("must have a short path of ASCII letters, digits, - and _, or none")
    return f"{_origin(url, message)}{url.path}"


def own_url(settings: dict[str, Any]) -> str:
    """Return the service's URL on this machine, with a loopback address for a wildcard one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings["host"], settings["host"])  # noqa: S104 - compared, not bound to.
    return f"http://{f'[{host}]' if ':' in host else host}:{settings['port']}"


def _mail_url(value: str) -> str:
    message = (
        "must be smtp://user:password@host:port, smtps:// or file:folder, "
        "with characters such as @ and / in the password percent-encoded"
    )
    # Only the path of a folder may contain blanks.
    blanks = value.startswith("file:")
    url = _url(value, ("smtp", "smtps", "file"), message, blanks=blanks)
    if url.scheme == "file":
        valid = bool(url.path) and not url.netloc and not url.query and not url.fragment
    else:
        valid = bool(url.hostname) and url.path in {"", "/"} and not url.query and not url.fragment
        valid = valid and (url.username is None) is (url.password is None)
    if not valid:
        raise ValueError(message)
    return value


def _storage_url(value: str) -> str:
    message = "must be file:folder or s3://bucket/prefix?endpoint=https://host&region=name"
    url = _url(value, ("file", "s3"), message)
    options = {name for name, _ in parse_qsl(url.query, keep_blank_values=True)}
    if url.scheme == "file":
        valid = bool(url.path) and not url.netloc and not url.query
    else:
        valid = bool(url.hostname) and "@" not in url.netloc and options <= {"endpoint", "region"}
    if not valid or url.fragment:
        raise ValueError(message)
    return value


def _mail_from(value: str) -> str:
    # The validator has no option to accept `local`, which internal networks use.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - loading it takes 40 ms.

    name = value.removesuffix(".local")
    known = value if name == value else f"{name}.test"
    try:
        checked = validate_email(
            known, check_deliverability=False, test_environment=True, allow_domain_literal=True
        )
    except EmailNotValidError:
        checked = None
    # Only some servers accept addresses with characters beyond ASCII.
    if checked is None or checked.ascii_email is None:
        raise ValueError("must be an email address such as concord@example.com")
    sender = checked.ascii_email
    return sender if known == value else f"{sender.removesuffix('.test')}.local"


def mail_host(url: str) -> str:
    """Return the host of a URL as email writes it: a domain or an IP address literal."""
    host = urlsplit(url).hostname or ""
    try:
        literal = ip_address(host)
    except ValueError:
        return host
    return f"[{'' if isinstance(literal, IPv4Address) else 'IPv6:'}{literal}]"


def own_address(settings: dict[str, Any]) -> str:
    """Return the default sender: `concord` at the public host."""
    return f"concord@{mail_host(settings['public_url'])}"


ListeningHost = Annotated[str, AfterValidator(_listening_host)]
DatabaseUrl = Annotated[str, AfterValidator(_lower_scheme), AfterValidator(_database_url)]
BrokerUrl = Annotated[str, AfterValidator(_lower_scheme), AfterValidator(_broker_url)]
RedisUrl = Annotated[str, AfterValidator(_lower_scheme), AfterValidator(_redis_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
MailUrl = Annotated[str, AfterValidator(_lower_scheme), AfterValidator(_mail_url)]
StorageUrl = Annotated[str, AfterValidator(_lower_scheme), AfterValidator(_storage_url)]
PaymentSecrets = Annotated[
    tuple[Annotated[tuple[str, str], BeforeValidator(_payment_secret)], ...],
    BeforeValidator(_split),
]
MailFrom = Annotated[str, AfterValidator(_mail_from)]
Networks = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...],
    BeforeValidator(_split),
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_cors_origin)], ...], BeforeValidator(_split)
]
