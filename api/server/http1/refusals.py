"""Refusals: responses that the server itself sends to requests it cannot parse."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from api.server.problem_documents import ProblemType


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why the server refuses a request before the application sees it."""

    slug: str
    detail: str

    def response(
        self,
        types: Mapping[str, ProblemType],
        instance: str,
        headers: Iterable[tuple[bytes, bytes]],
        *,
        head: bool = False,
    ) -> bytes:
        """Return the whole response: a problem document (RFC 9457) that closes the connection.

        The response contains nothing that the client sent. `types` are the service's kinds
        of error, and `headers` precede the response's own. With `head`, the body is left out.
        """
        kind = types[self.slug]
        document = orjson.dumps(
            {
                "type": kind.type,
                "code": kind.slug,
                "title": kind.title,
                "status": kind.status,
                "detail": self.detail,
                "instance": instance,
            }
        )
        fields = [
            *headers,
            (b"x-request-id", instance.encode()),
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(document)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        code = HTTPStatus(kind.status)
        status = f"HTTP/1.1 {code.value} {code.phrase}\r\n".encode()
        lines = b"".join(b"%s: %s\r\n" % each for each in fields)
        return b"%s%s\r\n%s" % (status, lines, b"" if head else document)


def cors_headers(
    sent: Iterable[tuple[bytes, bytes]], origins: Collection[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the headers that let a script of an allowed origin read a refusal.

    `sent` are the headers of the request, with names in lower case.
    """
    if not origins:
        return []
    named = [value for name, value in sent if name == b"origin" and value in origins]
    return [*((b"access-control-allow-origin", each) for each in named[:1]), (b"vary", b"Origin")]


MALFORMED_REQUEST = Refusal(
    "malformed-request", "The request is not well-formed HTTP/1.1, or its method is unknown."
)
REQUEST_TIMEOUT = Refusal("request-timeout", "The request's headers did not arrive in time.")
HEADER_FIELDS_TOO_LARGE = Refusal(
    "header-fields-too-large",
    "The request line and headers are too long, or there are too many headers.",
)
