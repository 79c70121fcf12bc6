"""Connections to hosts named by clients, which must not reach the operator's own network.

A name is resolved and checked for each connection, and the connection goes to the checked address,
so a name that later resolves to another address gains nothing (DNS rebinding).
"""

import socket
from collections.abc import Iterable
from contextlib import suppress

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkStream
from typing_extensions import override

from api.contract.serve.bridge import Pool
from api.outbound.webhook_urls import is_public

_MOST_TRIED = 8
_CONNECT_SECONDS = 4.0
"""Time limit for a connection to one address, so that the next one can be tried."""


class NotPublicError(OSError):
    """The host has no public address."""


class OutboundNetwork(httpcore.AnyIOBackend):
    """Connects to hosts, whose addresses must be `public` if so.

    Names are resolved in threads of their own, because that can take many seconds.
    """

    def __init__(self, resolvers: Pool, *, public: bool) -> None:
        self._public = public
        self._resolvers = resolvers

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
