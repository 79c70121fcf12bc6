"""Cursors: the position where a page ended, signed and bound to its operation and filters.

A cursor holds the key of the last row instead of an offset: rows inserted or deleted in the
meantime neither repeat nor hide other rows, and the ten-thousandth page costs as much as the
first.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from urllib.parse import urlencode

import itsdangerous

from api.contract.compile.parameters import Value
from api.contract.engine_errors import InvalidParameters, ParameterViolation

_POSITIONS = ("cursor", "limit")


class Cursors:
    """Signs and verifies cursors. Processes with the same key accept each other's cursors."""

    def __init__(self, key: bytes) -> None:
        self._serializer = itsdangerous.URLSafeSerializer(
            key, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )

    def encode(self, operation_id: str, arguments: Mapping[str, Value], position: object) -> str:
        """Return a cursor for a position in this list."""
        return str(self._serializer.dumps(position, _salt(operation_id, arguments)))

    def decode(self, operation_id: str, arguments: Mapping[str, Value], cursor: str) -> object:
        """Return the position that a cursor holds.

        Raises:
            InvalidParameters: the signature is invalid, or the cursor belongs to another list or
                filters.
        """
        salt = _salt(operation_id, arguments)
        position: object = None
        with contextlib.suppress(itsdangerous.BadData):
            position = self._serializer.loads(cursor, salt)
        # Only one spelling of a signature is valid: unused bits of its last character must not be
        # set.
        if position is None or self._serializer.dumps(position, salt) != cursor:
            reason = "is not a cursor for this list with these filters"
            raise InvalidParameters([ParameterViolation("query", "cursor", "cursor", reason)])
        return position


def next_link(url: str, arguments: Mapping[str, Value], cursor: str) -> str:
    """Format the `Link` header to the next page (RFC 8288)."""
    query = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in arguments.items()
        if value is not None
    }
    return f'<{url}?{urlencode({**query, "cursor": cursor}, doseq=True)}>; rel="next"'


def _salt(operation_id: str, arguments: Mapping[str, Value]) -> bytes:
    """Return the salt for an operation and its filters; it is part of each cursor's signature."""
    filters = sorted((name, value) for name, value in arguments.items() if name not in _POSITIONS)
    return f"position {operation_id} {filters!r}".encode()
