"""Rate limits as the contract declares them, counted with the `limits` package.

A moving window is exact: at no instant are there more than `limit` requests in the last `window`
seconds. The counters are in memory, or in Redis where several processes share them. The headers
are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from api.contract.errors import Overloaded, RateLimitExceeded
from api.contract.local_counters import LocalCounters
from api.contract.operations import Operation, RateLimit
from api.contract.request import Request
from api.logs import Logger

NormalForm: TypeAlias = Callable[[str], str]

_REDIS_TIMEOUT = 0.25
"""Seconds that a request waits for Redis before its limits count as unreachable."""

_KNOWN_FOR = 30 * 24 * 3600
"""Seconds that an address stays known for an account it signed in to."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """A limit of an operation, and what is the same at each of its requests."""

    limit: RateLimit
    item: RateLimitItem
    policy: str


class RateLimiter:
    """Counts requests against the limits of their operations."""

    def __init__(
        self, redis_url: str | None, normal_forms: Mapping[str, NormalForm], logger: Logger
    ) -> None:
        """Count in Redis, or in memory without a URL.

        `normal_forms` says for members of bodies that limits count by how their twins are one.
        """
        self._normal_forms = normal_forms
        self._storage = _storage(redis_url)
        self._window = MovingWindowRateLimiter(self._storage)
        self._limits: dict[str, tuple[_Counted, ...]] = {}
        self._is_reachable = True
        self._logger = logger

    async def count(self, request: Request, operation: Operation, *, with_body: bool) -> None:
        """Count a request against its operation's limits, and note what is left in its headers.

        Limits that need the body are counted once it is known to be valid (`with_body`), the others
        before it is read.

        Raises:
            RateLimitExceeded: a limit is used up.
            Overloaded: the counters are out of reach and the limit says to refuse then.
        """
        limits = self._limits.get(operation.id)
        if limits is None:
            limits = self._limits[operation.id] = tuple(_counted(operation))
        for counted in limits:
            if counted.limit.needs_body is with_body and _concerns(counted.limit, request):
                await self._count(request, counted)

    async def _count(self, request: Request, counted: _Counted) -> None:
        limit = counted.limit
        _note(request, "RateLimit-Policy", counted.policy)
        try:
            granted, seconds, remaining = await self._hit(request, counted)
        except (StorageError, TimeoutError) as error:
            if limit.fail_closed:
                raise Overloaded("The limit of this operation cannot be counted now.") from error
            self._note_reachable(reachable=False)
            return
        self._note_reachable(reachable=True)
        reset = max(1, math.ceil(seconds))
        if limit.member is None:
            # What is left of a limit that is shared with strangers would tell what they are doing.
            _note(request, "RateLimit", f'"{limit.name}";r={max(0, remaining)};t={reset}')
        if not granted:
            raise RateLimitExceeded(reset)

    async def _hit(self, request: Request, counted: _Counted) -> tuple[bool, float, int]:
        """Count a request: whether it is granted, the seconds to the reset, and what is left."""
        limit, item = counted.limit, counted.item
        if isinstance(self._storage, LocalCounters):
            key = item.key_for(*await self._key(request, limit))
            granted, age, used = self._storage.enter(key, limit.limit, limit.window)
            return granted, limit.window - age, limit.limit - used
        # A timeout of its own, beside those of the sockets, also bounds the wait for a connection.
        async with asyncio.timeout(2 * _REDIS_TIMEOUT):
            identifiers = await self._key(request, limit)
            granted = await self._window.hit(item, *identifiers)
            stats = await self._window.get_window_stats(item, *identifiers)
        return granted, stats.reset_time - time.time(), stats.remaining

    async def _key(self, request: Request, limit: RateLimit) -> tuple[str, ...]:
        key = (limit.name, self._subject(request, limit))
        if limit.known_apart and await self._storage.get(self._known(request, limit)):
            return (*key, _network(request.client_address))
        return key

    def _note_reachable(self, *, reachable: bool) -> None:
        """Say once, not at every request, that counting has stopped or goes on."""
        if reachable is not self._is_reachable:
            self._is_reachable = reachable
            self._logger.warning("rate limits", counted=reachable)

    async def remember(self, request: Request, operation: Operation) -> None:
        """Note that a request succeeded which shows that its sender is known, such as a sign-in.

        From then on the same address is counted apart from all others for that member's value, in
        every such limit of that name, so that whoever tries another's password cannot use up the
        tries of the owner, who registered or signed in from there.
        """
        for limit in operation.rate_limits:
            if limit.known_apart:
                key = self._known(request, limit)
                with contextlib.suppress(StorageError, TimeoutError):
                    async with asyncio.timeout(2 * _REDIS_TIMEOUT):
                        # Redis would let a counter that is there expire when it was going to.
                        await self._storage.clear(key)
                        await self._storage.incr(key, _KNOWN_FOR)

    async def close(self) -> None:
        """Give back the connections to Redis."""
        if isinstance(self._storage, RedisStorage) and isinstance(
            self._storage.bridge, RedispyBridge
        ):
            await self._storage.bridge.storage.aclose()

    def _known(self, request: Request, limit: RateLimit) -> str:
        subject = self._subject(request, limit)
        return f"known/{limit.name}/{subject}/{_network(request.client_address)}"

    def _subject(self, request: Request, limit: RateLimit) -> str:
        """Return who is counted; a member's value is hashed, so that no store holds it."""
        if limit.member is not None and isinstance(request.body, dict):
            normal_form = self._normal_forms.get(limit.member, str)
            value = normal_form(str(request.body.get(limit.member)))
            return hashlib.blake2b(value.encode(), digest_size=16).hexdigest()
        network = _network(request.client_address)
        if request.caller is None or limit.per == "address":
            return network
        user = f"user {request.caller.user_id}"
        return f"{user} {network}" if limit.per == "caller-and-address" else user


def _counted(operation: Operation) -> Iterator[_Counted]:
    for limit in operation.rate_limits:
        item = RateLimitItemPerSecond(limit.limit, limit.window, namespace=operation.id)
        yield _Counted(limit, item, f'"{limit.name}";q={limit.limit};w={limit.window}')


def _concerns(limit: RateLimit, request: Request) -> bool:
    body = request.body
    return limit.given is None or (isinstance(body, dict) and limit.given in body)


def _network(address: str) -> str:
    """Return who is counted as one: an IPv4 address, or the IPv6 network of a site."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))


def _storage(redis_url: str | None) -> Storage:
    if redis_url is None:
        return LocalCounters()
    return RedisStorage(
        f"async+{redis_url}",
        implementation="redispy",
        wrap_exceptions=True,
        socket_timeout=_REDIS_TIMEOUT,
        socket_connect_timeout=_REDIS_TIMEOUT,
    )


def _note(request: Request, name: str, value: str) -> None:
    """Write a limit's header; with several limits the field is a list (RFC 9651)."""
    for index, (known, earlier) in enumerate(request.headers):
        if known == name:
            request.headers[index] = (name, f"{earlier}, {value}")
            return
    request.headers.append((name, value))
