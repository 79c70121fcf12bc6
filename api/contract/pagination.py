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
        self._serializer = itsdangerous.URLSafeSerializer(
            key, signer_kwargs={"key_derivation": "hmac", "digest_method": _sha256}
        )

    def encode(self, operation_id: str, arguments: Mapping[str, Value], position: object) -> str:
        """Return the cursor of the row at `position` in this listing."""
        return str(self._serializer.dumps(position, _salt(operation_id, arguments)))

    def decode(self, operation_id: str, arguments: Mapping[str, Value], cursor: str) -> object:
        """Return the position that a cursor stands for.

        Raises:
            InvalidParameters: it was made by nobody here, or for other filters.
        """
        salt = _salt(operation_id, arguments)
        position: object = None
        with contextlib.suppress(itsdangerous.BadData):
            position = self._serializer.loads(cursor, salt)
        # A signature has one spelling: one with unused bits set would be the same cursor again.
        if position is None or self._serializer.dumps(position, salt) != cursor:
            reason = "is not a cursor of this listing with these filters"
            raise InvalidParameters([ParameterViolation("query", "cursor", "cursor", reason)])
        return position


def next_link(url: str, arguments: Mapping[str, Value], cursor: str) -> str:
    """Write the `Link` header that leads to the next page (RFC 8288)."""
    query = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in arguments.items()
        if value is not None
    }
    return f'<{url}?{urlencode({**query, "cursor": cursor}, doseq=True)}>; rel="next"'


def _salt(operation_id: str, arguments: Mapping[str, Value]) -> bytes:
    """Return the salt of a listing: under other filters the signature is another one."""
    filters = sorted((name, value) for name, value in arguments.items() if name not in _POSITIONS)
    return f"position {operation_id} {filters!r}".encode()


def _sha256(text: bytes = b"") -> "hashlib._Hash":
    return hashlib.sha256(text)
