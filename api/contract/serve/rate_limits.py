"""Rate limits as declared in the contract, counted with the `limits` package.

A moving window is exact: the last `window` seconds never contain more than `limit` requests. The
counters are in memory, or in Redis if several processes share them. The response headers follow
draft-ietf-httpapi-ratelimit-headers-10.
"""

import hashlib
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from api.contract.breaker import Breaker, CircuitOpenError
from api.contract.compile.admission import RateLimit
from api.contract.compile.operations import Operation
from api.contract.engine_errors import Overloaded, RateLimitExceeded
from api.contract.ports import Logger
from api.contract.serve.local_counters import LocalCounters
from api.contract.serve.request import Request

NormalForm: TypeAlias = Callable[[str], str]
Knows: TypeAlias = Callable[[str, str], Awaitable[bool]]
"""Returns whether the owner of a member's normalised value has used a network before."""

_REDIS_TIMEOUT = 0.25
"""Seconds before an operation on a Redis connection times out."""
_REDIS_PAUSE = 2.0
"""Seconds after a failure in which no request asks Redis."""
_FAILURES = (StorageError, TimeoutError, CircuitOpenError)
_HOST_BITS, _SITE_BITS = 64, 48
_SITE_FACTOR = 16
"""How much higher the limit is for an IPv6 site (/48) than for one of its networks (/64)."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """A limit with its precomputed windows and policy."""

    limit: RateLimit
    own: RateLimitItem
    site: RateLimitItem
    trickle: RateLimitItem
    policy: str


class _State(NamedTuple):
    """The state of a window after a request: granted, seconds until reset, and what remains."""

    granted: bool
    seconds: float
    remaining: int


class RateLimiter:
    """Counts requests against the limits of their operations."""

    def __init__(
        self,
        redis_url: str | None,
        normal_forms: Mapping[str, NormalForm],
        knows: Knows,
        credentials: RateLimit,
        logger: Logger,
        note_rejection: Callable[[str], None],
    ) -> None:
        """Count in Redis, or in memory if there is no URL.

        `normal_forms` maps body members to the functions that normalise their values before
        counting. `credentials` is the limit on requests with invalid credentials. `note_rejection`
        is called with the name of the limit that a rejected request exceeds.
        """
        self._normal_forms = normal_forms
        self._knows = knows
        self._storage = _storage(redis_url)
        self._window = MovingWindowRateLimiter(self._storage)
        self._limits: dict[str, tuple[_Counted, ...]] = {}
        self._credentials = _counted(credentials, "credentials")
        # The patience, on top of the socket timeouts, also bounds the wait for a connection.
        self._breaker = Breaker((StorageError,), patience=2 * _REDIS_TIMEOUT, pause=_REDIS_PAUSE)
        self.is_reachable = True
        """Whether the last request could be counted."""
        self._logger = logger
        self._note_rejection = note_rejection

    async def count(self, request: Request, operation: Operation, *, with_body: bool) -> None:
        """Count a request against its operation's limits, and set the rate-limit headers.

        With `with_body`, count the limits that need a valid body; otherwise count all others,
        before the body is read.

        Raises:
            RateLimitExceeded: a limit is exceeded.
            Overloaded: the counters are unreachable, and the limit fails closed.
        """
        limits = self._limits.get(operation.id)
        if limits is None:
            limits = self._limits[operation.id] = tuple(
                _counted(each, "shared" if each.shared else operation.id)
                for each in operation.rate_limits
            )
        for counted in limits:
            if counted.limit.needs_body is with_body and _concerns(counted.limit, request):
                state = await self._reach(counted, self._state(request, counted))
                _note(request, "RateLimit-Policy", counted.policy)
                if state is not None:
                    self._settle(request, counted, state)
                    if counted.limit.gives_back:
                        request.returnable.append(counted.limit.name)

    async def give_back(self, request: Request, status: int) -> None:
        """Refund the request in limits that do not count responses with this status.

        The newest request is removed from the window. Even if it is a later request than this one,
        the count is right. If the counters are unreachable, the request stays counted.
        """
        for counted in self._limits[request.operation.id] if request.operation else ():
            limit = counted.limit
            if limit.name in request.returnable and status in limit.gives_back:
                with suppress(*_FAILURES):
                    for item, network in _networks(counted, request.client_address):
                        await self._drop_newest(item.key_for(limit.name, network))

    async def count_failure(self, request: Request) -> None:
        """Count a request with invalid credentials.

        Raises:
            RateLimitExceeded: the request's address has sent too many.
        """
        counted = self._credentials
        state = await self._reach(counted, self._state(request, counted))
        if state is not None and not state.granted:
            self._refuse(request, state)

    async def require_few_failures(self, request: Request) -> None:
        """Check, without counting, that an address may send credentials that are not yet known.

        Raises:
            RateLimitExceeded: the address has sent too many invalid credentials.
        """
        counted = self._credentials
        for item, network in _networks(counted, request.client_address):
            state = await self._reach(counted, self._look(item, counted.limit.name, network))
            if state is not None and not state.granted:
                self._refuse(request, state)

    def _refuse(self, request: Request, state: _State) -> None:
        _note(request, "RateLimit-Policy", self._credentials.policy)
        self._settle(request, self._credentials, state)

    def _settle(self, request: Request, counted: _Counted, state: _State) -> None:
        """Report what remains, unless strangers share the limit; raise if the limit is exceeded."""
        limit, reset = counted.limit, max(1, math.ceil(state.seconds))
        if limit.member is None:
            # The remaining quota of a limit shared with strangers would reveal their activity.
            value = f'"{limit.name}";r={max(0, state.remaining)};t={reset}'
            _note(request, "RateLimit", value)
        if not state.granted:
            self._note_rejection(limit.name)
            raise RateLimitExceeded(reset)

    async def _reach(self, counted: _Counted, counting: Awaitable[_State]) -> _State | None:
        """Await the counters; None if they are unreachable and the limit fails open."""
        try:
            state = await counting
        except _FAILURES as error:
            if counted.limit.fail_closed:
                raise Overloaded("Rate limits are unavailable; try again shortly.") from error
            self._note_reachable(reachable=False)
            return None
        self._note_reachable(reachable=True)
        return state

    async def _state(self, request: Request, counted: _Counted) -> _State:
        """Count a request in each window of its limit, until one is full."""
        limit, address = counted.limit, request.client_address
        if limit.member is not None:
            return await self._state_of_member(request, counted, limit.member)
        if request.caller is None or limit.per == "address":
            states = []
            for item, network in _networks(counted, address):
                states.append(await self._hit(item, limit.name, network))
                if not states[-1].granted:
                    break
            return min(states, key=lambda state: state.remaining)
        user = f"user {request.caller.id}"
        if limit.per == "caller-and-address":
            user = f"{user} {network_of(address)}"
        return await self._hit(counted.own, limit.name, user)

    async def _state_of_member(self, request: Request, counted: _Counted, member: str) -> _State:
        """Count a request by a body member, which anyone can send, not just its owner.

        So that others cannot lock the owner out, addresses known to be the owner's are counted
        separately, and a full window still lets a trickle of requests through.
        """
        limit = counted.limit
        body = request.body if isinstance(request.body, dict) else {}
        value = self._normal_forms.get(member, str)(str(body.get(member)))
        # The value is hashed, so that no store contains it.
        subject = hashlib.blake2b(value.encode(), digest_size=16).hexdigest()
        network = network_of(request.client_address)
        if limit.known_apart and await self._knows(value, network):
            return await self._hit(counted.own, limit.name, subject, network)
        state = await self._hit(counted.own, limit.name, subject)
        if not state.granted and limit.trickle is not None:
            trickle = await self._hit(counted.trickle, limit.name, subject, "trickle")
            state = min(state, trickle, key=lambda each: (not each.granted, each.seconds))
        return state

    async def _hit(self, item: RateLimitItem, *key: str) -> _State:
        """Enter a request into a window, if there is room."""
        if isinstance(self._storage, LocalCounters):
            window = item.get_expiry()
            granted, age, used = self._storage.enter(item.key_for(*key), item.amount, window)
            return _State(granted, window - age, item.amount - used)
        async with self._breaker.attempt():
            granted = await self._window.hit(item, *key)
            stats = await self._window.get_window_stats(item, *key)
        return _State(granted, stats.reset_time - time.time(), stats.remaining)

    async def _drop_newest(self, key: str) -> None:
        """Remove the newest request from a window."""
        if isinstance(self._storage, LocalCounters):
            self._storage.drop_newest(key)
        elif bridge := self._bridge:
            # The package keeps a window as a list of times, newest first, and cannot shorten it.
            async with self._breaker.attempt():
                await bridge.storage.lpop(bridge.prefixed_key(key))

    async def _look(self, item: RateLimitItem, *key: str) -> _State:
        """Return the state of a window without counting a request."""
        async with self._breaker.attempt():
            stats = await self._window.get_window_stats(item, *key)
        return _State(stats.remaining > 0, stats.reset_time - time.time(), stats.remaining)

    def _note_reachable(self, *, reachable: bool) -> None:
        """Log once, rather than on every request, that counting has stopped or resumed."""
        if reachable is not self.is_reachable:
            self.is_reachable = reachable
            self._logger.warning("rate limits", counted=reachable)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if bridge := self._bridge:
            await bridge.storage.aclose()

    @property
    def _bridge(self) -> RedispyBridge | None:
        """The package's Redis storage, if requests are counted there."""
        bridge = self._storage.bridge if isinstance(self._storage, RedisStorage) else None
        return bridge if isinstance(bridge, RedispyBridge) else None


def _counted(limit: RateLimit, namespace: str) -> _Counted:
    return _Counted(
        limit,
        RateLimitItemPerSecond(limit.limit, limit.window, namespace),
        RateLimitItemPerSecond(_SITE_FACTOR * limit.limit, limit.window, namespace),
        RateLimitItemPerSecond(1, limit.trickle or limit.window, namespace),
        f'"{limit.name}";q={limit.limit};w={limit.window}',
    )


def _concerns(limit: RateLimit, request: Request) -> bool:
    body = request.body
    return limit.given is None or (isinstance(body, dict) and limit.given in body)


def _networks(counted: _Counted, address: str) -> Iterator[tuple[RateLimitItem, str]]:
    """Yield the windows that count a request from an address, narrowest first."""
    yield counted.own, network_of(address)
    if ":" in address:
        # A client with an IPv6 site can use any of its 65,536 networks.
        yield counted.site, network_of(address, _SITE_BITS)


def network_of(address: str, bits: int = _HOST_BITS) -> str:
    """Return the network that counts as one client: an IPv4 address, or an IPv6 prefix.

    A /64 network usually belongs to a single subscriber.
    """
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, bits), strict=False))


def _storage(redis_url: str | None) -> Storage:
    if redis_url is None:
        return LocalCounters()
    import redis.asyncio.retry  # noqa: PLC0415 - not needed without Redis.

    # After a failover, an open connection may still lead to the old primary, which rejects writes.
    retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 1, (redis.ReadOnlyError,))
    return RedisStorage(
        f"async+{redis_url}",
        implementation="redispy",
        wrap_exceptions=True,
        socket_timeout=_REDIS_TIMEOUT,
        socket_connect_timeout=_REDIS_TIMEOUT,
        retry=retry,  # type: ignore[arg-type]  # The package passes it on to the client.
    )


def _note(request: Request, name: str, value: str) -> None:
    """Set a limit's header; several limits form a list (RFC 9651)."""
    for index, (known, earlier) in enumerate(request.headers):
        if known == name:
            request.headers[index] = (name, f"{earlier}, {value}")
            return
    request.headers.append((name, value))
