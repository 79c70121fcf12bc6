"""The head of a request: what HTTP/1.1 requires of it beyond what the parser checks (RFC 9112)."""

import re
from ipaddress import IPv6Address

import httptools

from api.server.http1 import refusals
from api.server.http1.limits import ConnectionLimits

_VERSIONS = {b"0\r\n": "1.0", b"1\r\n": "1.1"}
"""HTTP versions by the text after `HTTP/1.` in the request line."""
_LONGEST_GAP = 32
"""Maximum bytes of empty lines before a request. RFC 9112, section 2.2, asks for one at least."""
# RFC 3986 section 3.2.2, with an optional port. The group is an address of IPv6.
_HOST = re.compile(
    rb"(?:\[(?:([0-9a-f:.]{2,45})|v[0-9a-f]+\.[\w.~!$&'()*+,;=:-]+)\]"
    rb"|(?:[\w.~!$&'()*+,;=-]|%[0-9a-f]{2})*+)(?::[0-9]*)?[ \t]*",
    re.ASCII | re.IGNORECASE,
)
# The parts of an absolute request target, whose path may be empty (RFC 9112, section 3.2.2).
_ABSOLUTE = re.compile(rb"(https?://([^/?:][^/?]*))/?(.*)", re.IGNORECASE | re.DOTALL)


class UnacceptableHead(httptools.HttpParserError):
    """Stops parsing a request that the parser accepts and the service does not."""


class RequestHead:
    """The head of the newest request on a connection, checked while it is parsed.

    `refusal` is the response to what the parser or a check rejects. `size` is the number of bytes
    of the parsed headers. The body has `body_left` bytes left of its Content-Length, or is
    `chunked`.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        # The unparsed bytes, which start with the empty lines before the request.
        self._text = b""
        self._valid_host = b""
        self.begin()

    def begin(self) -> None:
        """Start with the next request."""
        self.refusal = refusals.MALFORMED_REQUEST
        self.size = self.body_left = self._fields = self._hosts = 0
        self.chunked = False

    def add_bytes(self, piece: bytes) -> None:
        """Add bytes before they are parsed."""
        self._text += piece

    def check_gap(self) -> None:
        """Check that not too many empty lines precede the request.

        Raises:
            UnacceptableHead: There are too many. Each of them is parsed alone, so their number must
                be bounded here.
        """
        if len(self._text) > _LONGEST_GAP:
            raise UnacceptableHead

    def add_size(self, size: int) -> None:
        """Count bytes of the request line, a header or a trailer.

        Raises:
            UnacceptableHead: The head is too large, or has too many fields.
        """
        self.size += size
        limits = self._limits
        if self.size > limits.header_bytes or self._fields > limits.header_fields:
            self.refusal = refusals.HEADER_FIELDS_TOO_LARGE
            raise UnacceptableHead

    def add_field(self, name: bytes, value: bytes) -> None:
        """Count the bytes of a header or trailer.

        Raises:
            UnacceptableHead: As in `add_size`.
        """
        self._fields += 1
        self.add_size(len(name) + len(value) + len(": \r\n"))

    def check_header(self, parser: httptools.HttpRequestParser, name: bytes, value: bytes) -> None:
        """Check a header that decides where the request goes or where its body ends.

        Raises:
            UnacceptableHead: The host is malformed, or the coding of the body is not supported.
        """
        lowered = name.lower()
        if lowered == b"host":
            self._hosts += 1
            if value != self._valid_host:
                if not _is_host(value):
                    raise UnacceptableHead
                self._valid_host = value
        elif lowered == b"content-length":
            self.body_left = int(value)
        elif lowered == b"transfer-encoding":
            if value.lower() != b"chunked" or parser.get_http_version() == "1.0":
                # Any coding other than chunked would reach the application undecoded. In HTTP/1.0
                # the header makes the end of the body ambiguous (RFC 9112, section 6.1).
                raise UnacceptableHead
            self.chunked = True

    def complete(self, parser: httptools.HttpRequestParser, target: bytes) -> tuple[str, bytes]:
        """Check the complete head. Return its HTTP version and its target.

        Raises:
            UnacceptableHead: The request line, the number of hosts or an upgrade is not acceptable.
        """
        method = parser.get_method()
        version = self._read_version(method, target)
        # An HTTP/1.1 request has exactly one Host header (RFC 9112, section 3.2).
        if self._hosts > 1 or (version == "1.1" and not self._hosts):
            raise UnacceptableHead
        with_body = self.chunked or self.body_left or method == b"CONNECT"
        if with_body and parser.should_upgrade():
            # The parser reports no body here, so a body would be parsed as the next request.
            raise UnacceptableHead
        self._text = b""
        return version, _complete_target(method, target)

    def _read_version(self, method: bytes, target: bytes) -> str:
        """Return the HTTP version of a request line with single spaces, after empty lines only.

        The parser also accepts more spaces, a carriage return before the line, and RTSP.

        Raises:
            UnacceptableHead: The request line differs, or the version is neither 1.0 nor 1.1.
        """
        start = b" ".join((method, target, b"HTTP/1."))
        noise = b""
        if not self._text.startswith(start):
            noise = self._text.partition(start)[0]
        end = len(noise) + len(start)
        version = _VERSIONS.get(self._text[end : end + 3])
        if version is None or noise.replace(b"\r\n", b""):
            raise UnacceptableHead
        return version


def _is_host(value: bytes) -> bool:
    """Return whether a host, perhaps with a port, is valid in a URL (RFC 3986)."""
    match = _HOST.fullmatch(value)
    if match is None or match[1] is None:
        return match is not None
    try:
        IPv6Address(match[1].decode())
    except ValueError:
        return False
    return True


def _complete_target(method: bytes, target: bytes) -> bytes:
    """Return the target, with the path `/` if it is absolute and has none (RFC 9112, 3.2).

    Raises:
        UnacceptableHead: The target is neither a path nor an absolute URL, nor `*` for OPTIONS. An
            absolute URL has a valid host and no user information (RFC 9110, section 4.2).
    """
    if target.startswith(b"/"):
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None and _is_host(absolute[2]):
        return b"/".join(absolute.group(1, 3))
    if target != b"*" or method != b"OPTIONS":
        raise UnacceptableHead
    return target
