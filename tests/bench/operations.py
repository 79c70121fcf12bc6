"""The operations that are measured, each as the requests that a client sends."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from tests.bench.seeding import (
    BUYERS,
    RARE_BUYERS,
    RARE_READERS,
    READERS,
    REJECTED_BODY,
    Shop,
    order_body,
)

KEY = "\x1f"
"""Stands in a prepared request where a name of its own goes, the idempotency key."""
BETWEEN = "\x1e"
"""Stands between two prepared requests."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `headers` are besides those of the connection."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def raw(self, host: str) -> str:
        """As it goes over the wire."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join((*lines, "", "")) + self.body.decode()


Prepare: TypeAlias = Callable[[Shop], Sequence[Request]]


@dataclass(frozen=True, slots=True)
class MeasuredOperation:
    """A kind of request; `prepare` makes one for each account that sends it."""

    kind: str
    request: str
    prepare: Prepare
    database: str = "sqlite"
    is_rare: bool = False
    """Whether it is sent by more accounts than any server keeps in memory."""

    @property
    def name(self) -> str:
        """The name in the results, which omits SQLite."""
        rare = ["rare"] if self.is_rare else []
        return "-".join((self.kind, *rare, *([] if self.database == "sqlite" else [self.database])))

    @property
    def title(self) -> str:
        """The title in tables."""
        rare = ["rare callers"] if self.is_rare else []
        return ", ".join((self.request, *rare, _DATABASES[self.database]))

    @property
    def is_rejected(self) -> bool:
        """Whether its body is invalid."""
        return self.kind == "rejected"


def _health(_shop: Shop) -> Sequence[Request]:
    return [Request("GET", "/health")]


def _user(accounts: range, shop: Shop) -> Sequence[Request]:
    return [Request("GET", f"/v1/users/{each}", (_bearer(shop, each),)) for each in accounts]


def _orders(accounts: range, shop: Shop) -> Sequence[Request]:
    return [Request("GET", "/v1/orders?limit=25", (_bearer(shop, each),)) for each in accounts]


def _create(accounts: range, shop: Shop) -> Sequence[Request]:
    return [_post(shop, each, json.dumps(order_body(each)).encode()) for each in accounts]


def _rejected(accounts: range, shop: Shop) -> Sequence[Request]:
    return [_post(shop, each, json.dumps(REJECTED_BODY).encode()) for each in accounts]


def _post(shop: Shop, account: int, body: bytes) -> Request:
    headers = (
        _bearer(shop, account),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", KEY),
    )
    return Request("POST", "/v1/orders", headers, body)


def _bearer(shop: Shop, account: int) -> tuple[str, str]:
    return "Authorization", f"Bearer {shop.tokens[account]}"


_DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_USER, _REJECTED = "GET /v1/users/{id}", "POST /v1/orders, rejected"
_KINDS = (
    ("user", _USER, partial(_user, READERS), False),
    ("orders", "GET /v1/orders, 25 with lines", partial(_orders, READERS), False),
    ("create", "POST /v1/orders", partial(_create, BUYERS), False),
    ("rejected", _REJECTED, partial(_rejected, BUYERS), False),
    ("user", _USER, partial(_user, RARE_READERS), True),
    ("rejected", _REJECTED, partial(_rejected, RARE_BUYERS), True),
)
OPERATIONS = (
    MeasuredOperation("health", "GET /health", _health),
    *(
        MeasuredOperation(kind, request, prepare, database, is_rare)
        for kind, request, prepare, is_rare in _KINDS
        for database in _DATABASES
    ),
)
