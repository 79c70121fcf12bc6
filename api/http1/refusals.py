"""The answers that the server itself gives to what is not a request."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import orjson


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is answered by the server itself, before the application knows of it."""

    status: HTTPStatus
    slug: str
    title: str
    detail: str

    def response(
        self, public_url: str, instance: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> bytes:
        """The whole answer: a problem document (RFC 9457) that ends the connection.

        It holds nothing that the client sent. `headers` go before its own.
        """
        document = orjson.dumps(
            {
                "type": f"{public_url}/problems/{self.slug}",
                "title": self.title,
                "status": self.status.value,
                "detail": self.detail,
                "instance": instance,
            }
        )
        fields = [
            *headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(document)),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        status = f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n".encode()
        return b"".join([status, *(b"%s: %s\r\n" % each for each in fields), b"\r\n", document])


BAD_REQUEST = Refusal(
    HTTPStatus.BAD_REQUEST,
    "bad-request",
    "Bad request",
    "What arrived is not a well-formed HTTP/1.1 request.",
)
REQUEST_TIMEOUT = Refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "request-timeout",
    "Request timeout",
    "The request's headers did not arrive in time.",
)
HEADER_FIELDS_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "header-fields-too-large",
    "Request header fields too large",
    "The request line and the headers together are larger than this service reads.",
)
