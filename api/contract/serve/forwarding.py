"""The client's address and the service's public URL, as reported by trusted proxies.

Only the forwarding header that the settings name is read, and only from a trusted peer. The other
kind is ignored, because a proxy that sets one may pass on the other as the client sent it.
Addresses are read from the right, skipping trusted ones, because the client controls everything
further left.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
ForwardedHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_MOST_PROXIES = 16
"""Maximum number of elements read, from the right: more proxies than any request passes."""
_LONGEST_ADDRESS = 64
"""Maximum length of an address: IPv6 in brackets with a port, and some to spare."""


@dataclass(frozen=True, slots=True)
class Client:
    """The client's address, and the base URL of links to this service."""

    client_address: str
    base_url: str


class Forwarding:
    """Reads `X-Forwarded-*`, or RFC 7239's `Forwarded`, if the peer is a trusted proxy."""

    def __init__(
        self,
        trusted: Iterable[Network],
        public_url: str,
        *,
        header: ForwardedHeader,
        trust_host: bool,
    ) -> None:
        """Trust `header` from the networks in `trusted`.

        Links start with `public_url`; with `trust_host`, they use the host that the proxy reports.
        """
        self._trusted = tuple(trusted)
        self._public_url = public_url.rstrip("/")
        self._prefix = urlsplit(self._public_url).path
        # A proxy that reports only the host is assumed to use the scheme of the public URL.
        self._scheme = public_url.partition(":")[0]
        self._elements = _standard if header == "forwarded" else _customary
        self._trust_host = trust_host

    def origin(self, peer: str, fields: Mapping[str, str]) -> Client:
        """Return the origin of a request; `peer` is the address at the other end of the socket."""
        peer = _address(peer) or peer
        if not self._trusted or not self._is_trusted(peer):
            return Client(peer, self._public_url)
        elements = self._elements(fields)
        address = peer
        for element in reversed(elements):
            sender = _address(element.get("for", ""))
            if sender is None:
                break
            address = sender
            if not self._is_trusted(sender):
                break
        return Client(address, self._base_url(elements))

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    def _base_url(self, elements: list[dict[str, str]]) -> str:
        if not self._trust_host or not elements:
            return self._public_url
        host, scheme = elements[-1].get("host", ""), elements[-1].get("proto", self._scheme).lower()
        if not _HOST.fullmatch(host) or scheme not in ("http", "https"):
            return self._public_url
        return f"{scheme}://{host}{self._prefix}"


def _customary(fields: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the elements of `X-Forwarded-*`, one per proxy, nearest last."""
    elements = [{"for": sender} for sender in _last(fields.get("x-forwarded-for", ""))]
    for name in ("proto", "host"):
        value = fields.get(f"x-forwarded-{name}", "").rpartition(",")[2].strip()
        if value:
            elements = elements or [{}]
            elements[-1][name] = value
    return elements


def _standard(fields: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the elements of `Forwarded` (RFC 7239, section 4), one per proxy, nearest last."""
    return [_pairs(element) for element in _last(fields.get("forwarded", ""))]


def _last(text: str) -> list[str]:
    """Return the last members of a list (RFC 9110, section 5.6.1), without empty ones."""
    members = text.rsplit(",", _MOST_PROXIES)[-_MOST_PROXIES:]
    return [member for member in map(str.strip, members) if member]


def _pairs(element: str) -> dict[str, str]:
    """Parse an element of `Forwarded` without a regular expression."""
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _address(text: str) -> str | None:
    """Return an IP address in canonical form, without port or brackets; None if invalid."""
    # A long text cannot be an address, and must not fill the cache.
    return _parsed(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> str | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:
        # A scope ID can be any text, and means nothing outside the machine that wrote it.
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A dual-stack socket reports IPv4 clients as IPv6 addresses (RFC 4291, section 2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
