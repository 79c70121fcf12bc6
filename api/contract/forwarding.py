"""Who is at the other end, and under what address it knows us: believed from trusted proxies only.

Forwarding headers are read from the right, past the addresses that are themselves trusted: what
stands further left was written by the client and is worth nothing.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's address, and the URL that paths of this service are joined to."""

    client_address: str
    base_url: str


class Forwarding:
    """Reads `X-Forwarded-*`, or RFC 7239's `Forwarded`, when the peer is a trusted proxy."""

    def __init__(self, trusted: Iterable[Network], public_url: str) -> None:
        self._trusted = tuple(trusted)
        self._public_url = public_url.rstrip("/")
        # A proxy that names only the host speaks to clients as the settings say.
        self._scheme = public_url.partition(":")[0]

    def origin(self, peer: str, fields: Mapping[str, str]) -> Origin:
        """Return where a request came from; `peer` is the socket's other end."""
        peer = _address(peer) or peer
        if not self._trusted or not self._is_trusted(peer):
            return Origin(peer, self._public_url)
        elements = _elements(fields)
        if elements is None:
            return Origin(peer, self._public_url)
        address = peer
        nearest: Mapping[str, str] = elements[-1] if elements else {}
        for element in reversed(elements):
            sender = _address(element.get("for", ""))
            if sender is None:
                break
            address = sender
            if not self._is_trusted(sender):
                break
        return Origin(address, self._base_url(nearest))

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    def _base_url(self, nearest: Mapping[str, str]) -> str:
        host, scheme = nearest.get("host", ""), nearest.get("proto", self._scheme).lower()
        if not _HOST.fullmatch(host) or scheme not in ("http", "https"):
            return self._public_url
        return f"{scheme}://{host}"


def _elements(fields: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Return one element a proxy, nearest last; None when the two kinds of header disagree.

    A proxy writes one kind and may pass on the other as the client sent it, so that where both
    are there and differ neither can be believed.
    """
    senders = [item.strip() for item in fields.get("x-forwarded-for", "").split(",")]
    legacy = [{"for": sender} for sender in senders if sender]
    for name in ("proto", "host"):
        value = fields.get(f"x-forwarded-{name}", "").rpartition(",")[2].strip()
        if value:
            legacy = legacy or [{}]
            legacy[-1][name] = value
    standard = [
        _pairs(element) for element in fields.get("forwarded", "").split(",") if element.strip()
    ]
    if legacy and standard:
        return legacy if _said(legacy) == _said(standard) else None
    return legacy or standard


def _pairs(element: str) -> dict[str, str]:
    """Read one element of `Forwarded` (RFC 7239, section 4) without a regular expression."""
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _said(elements: list[dict[str, str]]) -> list[object]:
    """Return what the elements say that is acted on, in a form that can be compared."""
    senders: list[object] = [_address(element.get("for", "")) for element in elements]
    return [*senders, elements[-1].get("host"), elements[-1].get("proto")]


@lru_cache(maxsize=4096)
def _address(text: str) -> str | None:
    """Return an IP address in its usual text, without port and brackets; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:
        # A scope id is any text, and says nothing outside of the machine that wrote it.
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket of both kinds shows IPv4 clients as IPv6 addresses (RFC 4291, section 2.5.5.2).
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
