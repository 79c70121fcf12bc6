"""Cursors: where a page ended, signed and bound to the operation and filters that made it.

A cursor is the key of the last row, not an offset: rows that are inserted or deleted meanwhile
neither repeat nor hide a row that stayed, and the ten-thousandth page costs what the first does.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from urllib.parse import urlencode

import itsdangerous

from api.contract.errors import InvalidParameters, ParameterViolation
from api.contract.parameters import Value

_POSITIONS = ("cursor", "limit")


class Cursors:
    """Signs and reads cursors; every process that has the same key reads the others'."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, operation_id: str, arguments: Mapping[str, Value], position: object) -> str:
        """Return the cursor of the row at `position` in this listing."""
        return str(self._serializer(operation_id, arguments).dumps(position))

    def decode(self, operation_id: str, arguments: Mapping[str, Value], cursor: str) -> object:
        """Return the position that a cursor stands for.

        Raises:
            InvalidParameters: it was made by nobody here, or for other filters.
        """
        serializer = self._serializer(operation_id, arguments)
        position: object = None
        with contextlib.suppress(itsdangerous.BadData):
            position = serializer.loads(cursor)
        # A signature has one spelling: one with unused bits set would be the same cursor again.
        if position is None or serializer.dumps(position) != cursor:
            reason = "is not a cursor of this listing with these filters"
            raise InvalidParameters([ParameterViolation("query", "cursor", "cursor", reason)])
        return position

    def _serializer(
        self, operation_id: str, arguments: Mapping[str, Value]
    ) -> itsdangerous.URLSafeSerializer:
        filters = sorted(
            (name, value) for name, value in arguments.items() if name not in _POSITIONS
        )
        # The filters are the salt: under other filters the signature is another one.
        return itsdangerous.URLSafeSerializer(
            self._key,
            salt=f"position {operation_id} {filters!r}",
            signer_kwargs={"key_derivation": "hmac", "digest_method": _sha256},
        )


def next_link(url: str, arguments: Mapping[str, Value], cursor: str) -> str:
    """Write the `Link` header that leads to the next page (RFC 8288)."""
    query = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in arguments.items()
        if value is not None
    }
    return f'<{url}?{urlencode({**query, "cursor": cursor}, doseq=True)}>; rel="next"'


def _sha256(text: bytes = b"") -> "hashlib._Hash":
    return hashlib.sha256(text)
