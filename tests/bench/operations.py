"""The operations that are measured, each as the requests that a client sends."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tests.bench.seeding import BUYERS, READERS, REJECTED_BODY, Shop, order_body

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

    name: str
    title: str
    prepare: Prepare
    database: str = "sqlite"
    is_rejected: bool = False


def _health(_shop: Shop) -> Sequence[Request]:
    return [Request("GET", "/health")]


def _user(shop: Shop) -> Sequence[Request]:
    return [Request("GET", f"/v1/users/{each}", (_bearer(shop, each),)) for each in READERS]


def _orders(shop: Shop) -> Sequence[Request]:
    return [Request("GET", "/v1/orders?limit=25", (_bearer(shop, each),)) for each in READERS]


def _create(shop: Shop) -> Sequence[Request]:
    return [_post(shop, each, json.dumps(order_body(each)).encode()) for each in BUYERS]


def _rejected(shop: Shop) -> Sequence[Request]:
    return [_post(shop, each, json.dumps(REJECTED_BODY).encode()) for each in BUYERS]


def _post(shop: Shop, account: int, body: bytes) -> Request:
    headers = (
        _bearer(shop, account),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", KEY),
    )
    return Request("POST", "/v1/orders", headers, body)


def _bearer(shop: Shop, account: int) -> tuple[str, str]:
    return "Authorization", f"Bearer {shop.tokens[account]}"


OPERATIONS = (
    MeasuredOperation("health", "GET /health", _health),
    MeasuredOperation("user", "GET /v1/users/{id}", _user),
    MeasuredOperation("orders", "GET /v1/orders, 25 with lines", _orders),
    MeasuredOperation("create", "POST /v1/orders, SQLite", _create),
    MeasuredOperation(
        "create-postgresql", "POST /v1/orders, PostgreSQL", _create, database="postgresql"
    ),
    MeasuredOperation("rejected", "POST /v1/orders, rejected", _rejected, is_rejected=True),
)
