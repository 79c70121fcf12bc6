"""The answers that the server itself gives to what is not a request."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from api.problem_types import KINDS, ProblemKind


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is answered by the server itself, before the application knows of it."""

    kind: ProblemKind
    detail: str

    def response(
        self,
        public_url: str,
        instance: str,
        headers: Iterable[tuple[bytes, bytes]],
        *,
        head: bool = False,
    ) -> bytes:
        """The whole answer: a problem document (RFC 9457) that ends the connection.

        It holds nothing that the client sent. `headers` go before its own. To a HEAD request the
        document is not sent.
        """
        document = orjson.dumps(
            {
                "type": f"{public_url}/problems/{self.kind.slug}",
                "code": self.kind.slug,
                "title": self.kind.title,
                "status": self.kind.status,
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
        code = HTTPStatus(self.kind.status)
        status = f"HTTP/1.1 {code.value} {code.phrase}\r\n".encode()
        lines = b"".join(b"%s: %s\r\n" % each for each in fields)
        return b"%s%s\r\n%s" % (status, lines, b"" if head else document)


def _refusal(slug: str, detail: str) -> Refusal:
    return Refusal(next(kind for kind in KINDS if kind.slug == slug), detail)


MALFORMED_REQUEST = _refusal(
    "malformed-request", "What arrived is not a well-formed HTTP/1.1 request."
)
REQUEST_TIMEOUT = _refusal("request-timeout", "The request's headers did not arrive in time.")
HEADER_FIELDS_TOO_LARGE = _refusal(
    "header-fields-too-large",
    "The request line and the headers together are larger than this service reads.",
)
