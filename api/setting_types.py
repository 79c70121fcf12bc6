"""What a setting may be: addresses, URLs and lists of them, and what some are by default.

Each message says what to change and never repeats the value, which may hold a password.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator


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
        raise ValueError("must not hold a network of all addresses, which would trust everybody")
    return network


def _url(value: str, schemes: tuple[str, ...], message: str) -> SplitResult:
    if not value.isprintable() or " " in value:
        raise ValueError(message)
    try:
        url = urlsplit(value)
        # Reading the port is what checks it.
        valid = url.scheme in schemes and url.port != 0
    except ValueError:
        raise ValueError(message) from None
    if not valid:
        raise ValueError(message)
    return url


def _database_url(value: str) -> str:
    schemes = ("sqlite", "postgresql", "postgresql+psycopg")
    message = (
        "must be sqlite:///file or postgresql://user:password@host:port/database, "
        "with characters such as @ and / in the password percent-encoded"
    )
    url = _url(value, schemes, message)
    # An @ after the host is what is left of a password that holds a slash.
    if url.path in {"", "/"} or (url.scheme != "sqlite" and "@" in url.path):
        raise ValueError(message)
    return value


def _redis_url(value: str) -> str:
    _url(
        value, ("redis", "rediss", "unix"), "must be redis://host:port/number, rediss:// or unix://"
    )
    return value


def _origin(value: str, message: str) -> str:
    url = _url(value, ("http", "https"), message)
    bare = f"{url.scheme}://{url.netloc}" == value
    if not (bare and url.hostname and "@" not in value and "*" not in value):
        raise ValueError(message)
    # Browsers send an origin in lower case.
    return value.lower()


def _cors_origin(value: str) -> str:
    return _origin(
        value, "must list origins such as https://app.example.com:8443, with no path and no *"
    )


def _public_url(value: str) -> str:
    # Pages and links are at the root of their host, which is what `servers` in the contract says.
    return _origin(
        value.removesuffix("/"), "must be a scheme and a host, such as https://api.example.com"
    )


def own_url(settings: dict[str, Any]) -> str:
    """Where someone on this machine reaches the service: a wildcard address is nowhere to go to."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings["host"], settings["host"])  # noqa: S104 - compared, not bound to.
    return f"http://{f'[{host}]' if ':' in host else host}:{settings['port']}"


def _mail_url(value: str) -> str:
    message = (
        "must be smtp://user:password@host:port, smtps:// or file:folder, "
        "with characters such as @ and / in the password percent-encoded"
    )
    url = _url(value, ("smtp", "smtps", "file"), message)
    if url.scheme == "file":
        valid = bool(url.path) and not url.netloc and not url.query and not url.fragment
    else:
        valid = bool(url.hostname) and url.path in {"", "/"} and not url.query and not url.fragment
        valid = valid and (url.username is None) is (url.password is None)
    if not valid:
        raise ValueError(message)
    return value


def _mail_from(value: str) -> str:
    try:
        checked = validate_email(
            value, check_deliverability=False, test_environment=True, allow_domain_literal=True
        )
    except EmailNotValidError:
        checked = None
    # In other letters it could be taken by some servers only.
    if checked is None or checked.ascii_email is None:
        raise ValueError("must be an email address such as concord@example.com")
    return checked.ascii_email


def own_address(settings: dict[str, Any]) -> str:
    """The address of the service at its own host, where that is no name as RFC 5321 writes it."""
    host = urlsplit(settings["public_url"]).hostname or ""
    try:
        literal = ip_address(host)
    except ValueError:
        return f"concord@{host}"
    return f"concord@[{'' if isinstance(literal, IPv4Address) else 'IPv6:'}{literal}]"


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
MailUrl = Annotated[str, AfterValidator(_mail_url)]
MailFrom = Annotated[str, AfterValidator(_mail_from)]
Networks = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...],
    BeforeValidator(_split),
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_cors_origin)], ...], BeforeValidator(_split)
]
