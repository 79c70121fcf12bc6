"""Bytes described as data: text, lists of pieces, and generators such as `{$repeat: [A, 20000]}`.

- {$repeat: [piece, n]}           the piece n times
- {$hex: "ff fe"}                 these bytes
- {$json: {member: value}}        compact JSON; its texts and names may be generators
- {$nest: [open, n, inner, close]} n times open, inner, n times close
- {$encode: [piece, codec]}       the text in another character encoding
- {$base64url: piece}             without padding, as in a token (RFC 7515)
- {$gzip: piece} {$deflate: piece} compressed
- {$chunked: [piece, size]}       the chunked coding (RFC 9112, 7.1) in chunks of `size` bytes
- {$cut: [piece, n]}              the first n bytes
- {$join: [separator, first, count, piece]} `count` times the piece, `$N` counting from `first`
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

Piece: TypeAlias = "str | int | float | bool | list[Piece] | dict[str, Piece] | None"


def substitute(piece: Piece, words: Mapping[str, Piece]) -> Piece:
    """`piece` with each `$NAME` replaced: whole by any piece, inside a text by text or pieces."""
    if isinstance(piece, dict):
        return {
            render(substitute(key, words)).decode("utf-8", "surrogatepass"): substitute(item, words)
            for key, item in piece.items()
        }
    if isinstance(piece, list):
        return [substitute(item, words) for item in piece]
    if not isinstance(piece, str) or "$" not in piece:
        return piece
    parts: list[Piece] = [piece]
    for name in sorted(words, key=len, reverse=True):
        mark = f"${name}"
        for index, part in reversed(list(enumerate(parts))):
            if isinstance(part, str) and mark in part:
                split = part.split(mark)
                woven = [item for text in split for item in (text, words[name])][:-1]
                parts[index : index + 1] = [item for item in woven if item != ""]
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, str | int) for part in parts):
        return "".join(str(part) for part in parts)
    return parts


def render(piece: Piece) -> bytes:
    """Return the bytes that a piece stands for.

    Raises ValueError when it is no piece.
    """
    if isinstance(piece, str):
        return piece.encode("utf-8", "surrogatepass")
    if isinstance(piece, list):
        return b"".join(render(item) for item in piece)
    if isinstance(piece, dict):
        [(name, argument)] = piece.items()
        if name in _OF_ONE:
            return _OF_ONE[name](argument)
        if name in _OF_SEVERAL and isinstance(argument, list):
            return _OF_SEVERAL[name](*argument)
        raise ValueError(f"no generator {name} takes {argument!r}")
    return str(piece).encode()


def settle(value: Piece) -> Piece:
    """Return a JSON value in which generators have become the text that they make."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in {*_OF_ONE, *_OF_SEVERAL}:
            return render(value).decode()
        return {key: settle(item) for key, item in value.items()}
    return [settle(item) for item in value] if isinstance(value, list) else value


def _repeat(item: Piece, times: int) -> bytes:
    return render(item) * times


def _json(value: Piece) -> bytes:
    text = json.dumps(settle(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _nest(opening: Piece, depth: int, inner: Piece, closing: Piece) -> bytes:
    return render(opening) * depth + render(inner) + render(closing) * depth


def _encode(item: Piece, codec: str) -> bytes:
    return render(item).decode().encode(codec)


def _base64url(item: Piece) -> bytes:
    return base64.urlsafe_b64encode(render(item)).rstrip(b"=")


def _gzip(item: Piece) -> bytes:
    return gzip.compress(render(item), mtime=0)


def _deflate(item: Piece) -> bytes:
    return zlib.compress(render(item))


def _chunked(item: Piece, size: int) -> bytes:
    data = render(item)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


def _cut(item: Piece, length: int) -> bytes:
    return render(item)[:length]


def _join(separator: str, first: int, count: int, item: Piece) -> bytes:
    numbers = range(first, first + count)
    return separator.encode().join(render(substitute(item, {"N": number})) for number in numbers)


def _hex(digits: Piece) -> bytes:
    return bytes.fromhex(str(digits))


_OF_ONE: Mapping[str, Callable[[Piece], bytes]] = {
    "$hex": _hex,
    "$json": _json,
    "$base64url": _base64url,
    "$gzip": _gzip,
    "$deflate": _deflate,
}
_OF_SEVERAL: Mapping[str, Callable[..., bytes]] = {
    "$repeat": _repeat,
    "$nest": _nest,
    "$encode": _encode,
    "$chunked": _chunked,
    "$cut": _cut,
    "$join": _join,
}
