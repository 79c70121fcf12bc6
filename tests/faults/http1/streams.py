"""Byte streams of mutated requests, the same in every run.

Each stream is a few requests that are right, changed where parsers are known to disagree, and ends
with a request for `/canary`, which only a parser that knows where the others end can find.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

CANARY = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
"""A request inside the body of another one."""

_SEED = 20_261_128
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_SIZE = b"%x" % len(HIDDEN)


def _head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: a", *fields]) + b"\r\n"


BASES = (
    _head(b"GET /plain") + b"\r\n",
    _head(b"HEAD /plain") + b"\r\n",
    _head(b"DELETE /empty", b"Content-Length: 0") + b"\r\n",
    _head(b"POST /length", b"Content-Length: %d" % len(HIDDEN)) + b"\r\n" + HIDDEN,
    _head(b"GET /length", b"Content-Length: 5") + b"\r\nhello",
    _head(b"PUT /chunked") + _CHUNKED + _SIZE + b"\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    _head(b"POST /chunked") + _CHUNKED + b'3;a=b;c="d"\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n',
    _head(b"POST /chunked") + _CHUNKED + b"a\r\n0\r\n\r\nGET /\r\n0\r\n\r\n",
    _head(b"POST /expect", b"Expect: 100-continue", b"Content-Length: 2") + b"\r\nok",
    _head(b"GET /upgrade", b"Connection: Upgrade", b"Upgrade: websocket") + b"\r\n",
    _head(
        b"POST /upgrade",
        b"Connection: upgrade",
        b"Upgrade: h2c",
        b"Content-Length: %d" % len(HIDDEN),
    )
    + b"\r\n"
    + HIDDEN,
    _head(b"POST /upgrade", b"Connection: keep-alive, Upgrade", b"Upgrade: x")
    + _CHUNKED
    + _SIZE
    + b"\r\n"
    + HIDDEN
    + b"\r\n0\r\n\r\n",
    _head(b"GET /last", b"Connection: close") + b"\r\n",
    b"GET /old HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"POST /old HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
    _head(b"GET http://b.example/absolute?x=1") + b"\r\n",
    _head(b"GET http://b.example") + b"\r\n",
    _head(b"GET HTTP://b.example:80?x=1") + b"\r\n",
    _head(b"OPTIONS *") + b"\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
)
_FIELDS = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: -1",
    b"Content-Length: 05", b"Content-Length: 5, 5", b"Content-Length: 5,6", b"Content-Length:",
    b"Content-Length: 0x5", b"Content-Length: 5 5", b"Content-Length: 5\x0b",
    b"Content-Length : 5", b"Content-Length: 1_0", b"Content-Length: 18446744073709551617",
    b"content-length:5 \t", b"Content-Length: \xb2", b"Content_Length: 5",
    b"X: y\r\n Content-Length: 5", b"Content-Length:\r\n 5", b"Transfer-Encoding: chunked",
    b"transfer-encoding:chunked \t", b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding:", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: \x0bchunked", b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding:\r\n chunked", b"Transfer_Encoding: chunked",
    b" Transfer-Encoding: chunked", b"X:\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked", b"Transfer-Encoding\x00: chunked", b"Transfer-Encoding",
    b"TE: trailers", b"Trailer: Content-Length", b"Connection: close", b"Connection: keep-alive",
    b"Connection: Upgrade", b"Connection: x, CLOSE ,y", b"Connection: closed",
    b"Connection: close\t", b"Connection: ,close,", b"Connection: x close",
    b"Connection: content-length", b"Connection: transfer-encoding, upgrade", b"Connection:",
    b"Connection: upgrade,close", b"Keep-Alive: max=1", b"Proxy-Connection: close",
    b"Upgrade: websocket", b"Upgrade: h2c, x/1", b"Upgrade:", b"HTTP2-Settings: AAMAAABk",
    b"Sec-WebSocket-Key: AAAA", b"Expect: 100-continue", b"Expect: 200-ok", b"Host: b", b"Host:",
    b"Host: a b", b"Host: a@b", b"hOsT: a", b": x", b"x", b"X\x80: y", b"X: \x80", b"X: \x00",
    b"X: \x7f", b"X y: z", b"X(: y", b"X: " + b"y" * 200,
)  # fmt: skip
_BYTES = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\x80", b"\xa0",
    b"\xff", b":", b";", b",", b"=", b'"', b"+", b"-", b"0", b"1", b"5", b"a", b"f", b"G", b"x",
    b"#", b"?", b"/", b"0\r\n\r\n", b"5\r\n", HIDDEN,
)  # fmt: skip
_LINES = (
    b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1",
    b"GET\t/ HTTP/1.1", b"get / HTTP/1.1", b"GET / http/1.1", b"GET / HTTP/1.2",
    b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET /", b"GET / RTSP/1.1", b"GET / HTTP/01.1",
    b"GET / HTTP/1.10", b"GET / HTTP/1.1x", b"GET HTTP/1.1", b"GET", b"\rGET / HTTP/1.1",
    b"\r\nGET / HTTP/1.1", b"\r\n\r\nGET / HTTP/1.1", b"\nGET / HTTP/1.1", b"",
    b"SOURCE / ICE/1.1", b"PRI * HTTP/2.0", b"M-SEARCH / HTTP/1.1", b"FOO / HTTP/1.1",
    b"G=T / HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET /a b HTTP/1.1", b"GET a:80 HTTP/1.1",
    b"GET x HTTP/1.1", b"GET * HTTP/1.1", b"GET /\xc3\xa9 HTTP/1.1", b"GET /\x7f HTTP/1.1",
    b"GET http://b HTTP/1.1", b"CONNECT /x HTTP/1.1", b"GET http://a@b/ HTTP/1.1",
    b"POST / HTTP/1.1", b"GET / HTTP/1.0", b"CONNECT a:80 HTTP/1.1",
)  # fmt: skip


def _add_field(source: random.Random, request: bytes) -> bytes:
    head, end, rest = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    lines.insert(source.randint(1, len(lines)), source.choice(_FIELDS))
    return b"\r\n".join(lines) + end + rest


def _change_fields(source: random.Random, request: bytes) -> bytes:
    head, end, rest = request.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    change = source.choice(("drop", "double", "shuffle", "bare"))
    if fields and change == "drop":
        fields.remove(source.choice(fields))
    elif fields and change == "double":
        fields.append(source.choice(fields))
    elif change == "shuffle":
        source.shuffle(fields)
    joint = source.choice((b"\n", b"\r")) if change == "bare" else b"\r\n"
    return joint.join([line, *fields]) + end + rest


def _change_line(source: random.Random, request: bytes) -> bytes:
    return source.choice(_LINES) + request[request.index(b"\r\n") :]


def _insert(source: random.Random, request: bytes) -> bytes:
    at = source.randint(0, len(request))
    return request[:at] + source.choice(_BYTES) + request[at:]


def _overwrite(source: random.Random, request: bytes) -> bytes:
    at = source.randint(0, len(request))
    what = source.choice(_BYTES)
    return request[:at] + what + request[at + len(what) :]


def _delete(source: random.Random, request: bytes) -> bytes:
    at = source.randrange(max(1, len(request)))
    return request[:at] + request[at + source.randint(1, 3) :]


_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _add_field,
    _add_field,
    _add_field,
    _change_fields,
    _change_line,
    _insert,
    _overwrite,
    _delete,
)


def _mutate(source: random.Random, request: bytes) -> bytes:
    for _ in range(source.choice((0, 1, 1, 1, 2, 3))):
        if b"\r\n" in request:
            request = source.choice(_MUTATIONS)(source, request)
    return request


def streams(count: int) -> Iterator[bytes]:
    """Every base unchanged, with every field and every request line, then random mutations."""
    yield from (base + CANARY for base in BASES)
    for base in BASES:
        line, rest = base.split(b"\r\n", 1)
        yield from (line + b"\r\n" + field + b"\r\n" + rest + CANARY for field in _FIELDS)
        yield from (line + b"\r\n" + rest + CANARY for line in _LINES)
    source = random.Random(_SEED)  # noqa: S311 - A corpus has to be the same in every run.
    for _ in range(count):
        requests = source.choices(BASES, k=source.randint(1, 3))
        yield b"".join(_mutate(source, request) for request in requests) + CANARY


def split(stream: bytes) -> list[bytes]:
    """The stream in a few pieces, cut at places that depend on it alone."""
    source = random.Random(stream)  # noqa: S311 - A corpus has to be the same in every run.
    cuts = sorted(source.randint(1, len(stream) - 1) for _ in range(source.randint(1, 4)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
