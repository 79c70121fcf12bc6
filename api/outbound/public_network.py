"""Connections to hosts named by clients, which must not reach the operator's own network.

A name is resolved and checked for each connection, and the connection goes to the checked address,
so a name that later resolves to another address gains nothing (DNS rebinding).
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkStream
from typing_extensions import override

from api.contract.serve.bridge import Pool
from models.errors import InvalidWebhookUrl

# RFC 6052. Translators of networks without IPv4 use it.
_NAT64 = IPv6Network("64:ff9b::/96")
_TEREDO = IPv6Network("2001::/32")
_MOST_TRIED = 8
_CONNECT_SECONDS = 4.0
"""Time limit for a connection to one address, so that the next one can be tried."""
_RESOLVERS, _SHARE, _NAMES = 16, 4, 1000
"""Names that are resolved at once, those of one host among them, and those that wait."""


class NotPublicError(OSError):
    """The host has no public address."""


def is_public(address: str) -> bool:
    """Return whether an IP address is reachable by everyone, and so not inside a private network.

    IPv6 addresses that contain an IPv4 address count as that address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            embedded = IPv4Address(int(parsed) & 0xFFFF_FFFF)
        if parsed in _TEREDO:
            return False
        if embedded is not None:
            return is_public(str(embedded))
    return parsed.is_global and not parsed.is_multicast


class OutboundNetwork(httpcore.AnyIOBackend):
    """Connects to hosts, whose addresses must be `public` if so.

    Names are resolved in threads of their own, because that can take many seconds.
    """

    def __init__(self, *, public: bool) -> None:
        self._public = public
        self._resolvers = Pool("names", _RESOLVERS, _NAMES, share=_SHARE)

    def close(self) -> None:
        """Wait for names that are being resolved, and resolve no more."""
        self._resolvers.close()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the first address of a host that accepts the connection.

        Raises:
            NotPublicError: None of the addresses of the host is public.
            OSError: The name is invalid or does not exist.
            Overloaded: Too many names are being resolved.
            httpcore.ConnectError, httpcore.ConnectTimeout: All connections failed.
        """
        resolve = self._resolvers.run
        try:
            found = await resolve(host, socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            # A label of the name is empty or too long.
            raise OSError("the name of the host is invalid") from None
        addresses = [str(each[4][0]) for each in found]
        allowed = [each for each in addresses if not self._public or is_public(each)]
        if not allowed:
            raise NotPublicError("the host has no public address")
        *others, last = allowed[:_MOST_TRIED]
        limit = _CONNECT_SECONDS if timeout is None else min(timeout, _CONNECT_SECONDS)
        connect = super().connect_tcp
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await connect(address, port, limit, local_address, socket_options)
        return await connect(last, port, timeout, local_address, socket_options)


class WebhookUrls:
    """The rules for the URLs of webhook endpoints: anything goes unless they must be `public`."""

    def __init__(self, *, public: bool) -> None:
        self._public = public

    def check(self, url: str) -> None:
        """Check a URL that fits the pattern of the contract.

        Raises:
            InvalidWebhookUrl: The port is out of range, or the URL must be public and has another
                scheme than https or a host that is a private address.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise _invalid("is not a valid URL") from None
        if not self._public:
            return
        if parts.scheme.lower() != "https":
            raise _invalid("must start with https://")
        try:
            public = is_public(host)
        except ValueError:
            # It is a name, which is resolved when a connection is made.
            public = host.rpartition(".")[2] not in ("localhost", "local", "internal")
        if not public:
            raise _invalid("must have a host with a public address")


def _invalid(reason: str) -> InvalidWebhookUrl:
    return InvalidWebhookUrl(violations={"/url": reason})
