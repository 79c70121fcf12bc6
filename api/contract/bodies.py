"""Request bodies: received within bounds, read as strict JSON, held against their schema."""

import asyncio
from collections.abc import Mapping

from starlette.types import Receive
from werkzeug.http import parse_options_header

from api.contract import strict_json
from api.contract.errors import (
    BodyTimeout,
    BodyViolation,
    ClientGone,
    ContentTooLarge,
    InvalidBody,
    Overloaded,
    UnsupportedContentEncoding,
)
from api.contract.operations import JSON_MEDIA_TYPE, Body
from api.contract.sizes import is_too_large
from api.contract.strict_json import JSON


class Budget:
    """Bytes that all bodies on their way may take together, so that many cannot add up."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, size: int) -> None:
        """Take some bytes.

        Raises:
            Overloaded: there are no more.
        """
        if size > self._left:
            raise Overloaded("Too many bodies are on their way; try again shortly.")
        self._left -= size

    def give_back(self, size: int) -> None:
        """Give bytes back that a body took."""
        self._left += size


async def receive_body(
    receive: Receive, fields: Mapping[str, str], *, limit: int, deadline: float, budget: Budget
) -> bytes:
    """Receive a whole body of at most `limit` bytes within `deadline` seconds.

    The bytes are counted as they arrive, so that neither a declared nor a chunked body can take
    more memory than the limit.

    Raises:
        ContentTooLarge: as soon as the length is known to be over the limit.
        UnsupportedContentEncoding: the body is compressed.
        BodyTimeout: it came too slowly.
        Overloaded: all bodies on their way take more memory than the service has for them.
        ClientGone: it will never come.
    """
    if fields.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedContentEncoding
    length = fields.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > limit:
        raise ContentTooLarge(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(deadline):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                if size + len(chunk) > limit:
                    raise ContentTooLarge(limit)
                budget.take(len(chunk))
                size += len(chunk)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise BodyTimeout from None
    finally:
        budget.give_back(size)


def read_json(body: Body, fields: Mapping[str, str], text: bytes) -> JSON:
    """Parse and validate a received body; defaults are filled in.

    Raises:
        InvalidBody: with every fault, or the first of those that hide all others.
    """
    if not text:
        if not body.required:
            return None
        raise _fault("required", "is required")
    _check_media_type(fields.get("content-type", ""))
    if is_too_large(text, body.largest):
        raise _fault("size", "is larger than any valid one")
    try:
        value = strict_json.parse(text)
    except strict_json.NotStrictJSON as error:
        raise _fault("json", f"cannot be read: {error}") from None
    if not body.validator.is_valid(value):
        raise InvalidBody(*body.validator.faults(value))
    return body.normalise(value) if body.normalise else value


def _check_media_type(field: str) -> None:
    media_type, options = parse_options_header(field)
    if media_type.lower() != JSON_MEDIA_TYPE:
        raise _fault("media-type", f"must be sent as {JSON_MEDIA_TYPE}")
    if options.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise _fault("media-type", "must be in UTF-8")


def _fault(code: str, message: str) -> InvalidBody:
    return InvalidBody([BodyViolation("", code, message)])
