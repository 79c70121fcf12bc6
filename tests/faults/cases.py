"""The hostile corpus: reads `corpus/*.yaml` and turns each description into bytes.

A file is a mapping with `group`, optional `defaults` for its cases, and `cases`. A case has a
`name` and either `raw` (the whole request) or `method`, `target`, `headers` and `body`, each made
of *pieces*: text (sent as UTF-8), a list of pieces (joined), or one of the generators below.

    {$repeat: [piece, n]}           the piece n times
    {$hex: "ff fe"}                 these bytes
    {$json: value}                  the value as compact JSON; text in it may be a generator
    {$nest: [open, n, inner, close]} n times open, inner, n times close
    {$encode: [piece, codec]}       the text in another character encoding
    {$base64url: piece}             without padding, as in a token (RFC 7515)
    {$gzip: piece} {$deflate: piece} compressed
    {$chunked: [piece, size]}       the chunked coding (RFC 9112, 7.1) in chunks of `size` bytes
    {$cut: [piece, n]}              the first n bytes
    {$join: [separator, first, count, piece]} `count` times the piece, `$N` counting from `first`

`vary: {NAME: values}` makes one case of each value (of each combination, with several names) and
puts it in the place of `$NAME`; values are a list, a mapping of label → value, or
`{$range: [start, stop]}`. `$CANARY`, `$TOKEN`, `$ADMIN_TOKEN`, `$USER_ID`, `$ADDRESS` and `$PORT`
are filled in when the request is sent.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import yaml

from tests.faults.wire import Delivery

Piece: TypeAlias = "str | int | float | bool | None | list[Piece] | dict[str, Piece]"

CORPUS = Path(__file__).parent / "corpus"
KEYS = frozenset(
    "name raw method target headers body as length expect forbid echoes answers json "
    "head one_byte slices pause half_close linger deadline vary why".split()
)
CLOSED = "closed"
DEADLINE = 20.0
LINGER = 0.5


@dataclass(frozen=True)
class Case:
    """One request and what may come back.

    `expect` lists statuses, classes such as `4xx`, and `closed` for a connection that ends
    without an answer. `forbid` are texts that neither answer nor log may hold, besides the
    canary that stands for `$CANARY`.
    """

    id: str
    number: int
    description: Mapping[str, Piece]

    @property
    def canary(self) -> str:
        """A word that occurs nowhere else, the same in every run."""
        return "zq" + hashlib.sha256(self.id.encode()).hexdigest()[:12]

    @property
    def address(self) -> str:
        """A client address of its own (RFC 2544 range), so that no rate limit hides a fault."""
        return f"198.18.{self.number // 250}.{self.number % 250 + 1}"

    @property
    def expect(self) -> tuple[str, ...]:
        """What may come back, each as text."""
        expect = self.description.get("expect", ["4xx", CLOSED])
        return tuple(str(item) for item in (expect if isinstance(expect, list) else [expect]))

    @property
    def forbid(self) -> tuple[str, ...]:
        """Texts that must come back nowhere."""
        forbidden = self.description.get("forbid", [])
        return (self.canary, *(cast("list[str]", forbidden)))

    @property
    def delivery(self) -> Delivery:
        """How the request is sent; several answers, or proof of only one, take time to listen."""
        how = self.description
        return Delivery(
            one_byte=bool(how.get("one_byte", False)),
            slices=tuple(cast("list[int]", how.get("slices", []))),
            pause=float(cast("float", how.get("pause", 0.0))),
            half_close=bool(how.get("half_close", False)),
            linger=float(cast("float", how.get("linger", LINGER if "answers" in how else 0.0))),
            deadline=float(cast("float", how.get("deadline", DEADLINE))),
        )

    @property
    def json(self) -> Piece:
        """What the body of the answer has to hold, or None."""
        return _settled(substitute(self.description.get("json"), {"CANARY": self.canary}))

    @property
    def answers(self) -> int:
        """How many answers the bytes deserve."""
        return int(cast("int", self.description.get("answers", 1)))

    @property
    def echoes(self) -> bool:
        """Whether the answer may repeat what was sent, as that of a change does; the log may not."""
        return bool(self.description.get("echoes", False))

    @property
    def is_head(self) -> bool:
        """Whether answers have no body."""
        return bool(self.description.get("head", self.description.get("method") == "HEAD"))

    def request(self, words: Mapping[str, str]) -> bytes:
        """The bytes of the request, with `words` in place of `$TOKEN` and the like."""
        known = {"CANARY": self.canary, "ADDRESS": self.address, **words}
        description = cast("Mapping[str, Piece]", substitute(dict(self.description), known))
        if "raw" in description:
            return render(description["raw"])
        body = render(description["body"]) if "body" in description else None
        lines = [
            render([description.get("method", "GET"), " ", description["target"], " HTTP/1.1"]),
            *self._header_lines(description, words),
        ]
        if body is not None and description.get("length", True):
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join([*lines, b"", body or b""])

    def _header_lines(
        self, description: Mapping[str, Piece], words: Mapping[str, str]
    ) -> Iterator[bytes]:
        headers = description.get("headers", {})
        pairs = headers.items() if isinstance(headers, dict) else cast("list[list[str]]", headers)
        given = [(render(name), render(value)) for name, value in pairs]
        names = {name.lower() for name, _ in given}
        if b"host" not in names:
            yield f"Host: 127.0.0.1:{words['PORT']}".encode()
        yield f"X-Forwarded-For: {self.address}".encode()
        if "as" in description and b"authorization" not in names:
            token = words["ADMIN_TOKEN" if description["as"] == "admin" else "TOKEN"]
            yield f"Authorization: Bearer {token}".encode()
        yield from (name + b": " + value for name, value in given)


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
    """The bytes that a piece stands for."""
    if isinstance(piece, str):
        return piece.encode("utf-8", "surrogatepass")
    if isinstance(piece, list):
        return b"".join(render(item) for item in piece)
    if isinstance(piece, dict):
        [(generator, argument)] = piece.items()
        return _generate(generator, argument)
    return str(piece).encode()


def _generate(generator: str, argument: Piece) -> bytes:
    match generator, argument:
        case "$repeat", [item, int(times)]:
            return render(item) * times
        case "$hex", str(digits):
            return bytes.fromhex(digits)
        case "$json", value:
            return json.dumps(_settled(value), ensure_ascii=False, separators=(",", ":")).encode(
                "utf-8", "surrogatepass"
            )
        case "$nest", [opening, int(depth), inner, closing]:
            return render(opening) * depth + render(inner) + render(closing) * depth
        case "$encode", [item, str(codec)]:
            return render(item).decode().encode(codec)
        case "$base64url", item:
            return base64.urlsafe_b64encode(render(item)).rstrip(b"=")
        case "$gzip", item:
            return gzip.compress(render(item), mtime=0)
        case "$deflate", item:
            return zlib.compress(render(item))
        case "$chunked", [item, int(size)]:
            data = render(item)
            parts = [data[at : at + size] for at in range(0, len(data), size)]
            return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
        case "$cut", [item, int(length)]:
            return render(item)[:length]
        case "$join", [str(separator), int(first), int(count), item]:
            numbers = range(first, first + count)
            return separator.encode().join(render(substitute(item, {"N": n})) for n in numbers)
    raise ValueError(f"no generator {generator} takes {argument!r}")


def _settled(value: Piece) -> Piece:
    """A JSON value whose generators have become text."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in {"$repeat", "$nest", "$join"}:
            return render(value).decode()
        return {key: _settled(item) for key, item in value.items()}
    return [_settled(item) for item in value] if isinstance(value, list) else value


def _labelled(values: Piece) -> Sequence[tuple[str, Piece]]:
    match values:
        case {"$range": [int(start), int(stop)]}:
            return [(str(number), number) for number in range(start, stop)]
        case dict():
            return [(str(label), value) for label, value in values.items()]
        case list():
            return [(str(value), value) for value in values]
    raise ValueError(f"{values!r} cannot be varied over")


def _expanded(group: str, description: dict[str, Piece]) -> Iterator[tuple[str, dict[str, Piece]]]:
    if unknown := description.keys() - KEYS:
        raise ValueError(f"{group}: {description.get('name')} has unknown keys {sorted(unknown)}")
    vary = cast("dict[str, Piece]", description.pop("vary", {}))
    for choice in itertools.product(*(_labelled(values) for values in vary.values())):
        words = {name: value for name, (_, value) in zip(vary, choice, strict=True)}
        labels = [str(description["name"]), *(label for label, _ in choice)]
        case_id = "/".join([group, *labels]).encode("ascii", "backslashreplace").decode()
        yield case_id, cast("dict[str, Piece]", substitute(description, words))


def load(folder: Path = CORPUS) -> list[Case]:
    """Every case of every file, in the order of their names. Raises ValueError for a bad file."""
    cases: list[Case] = []
    for path in sorted(folder.glob("*.yaml")):
        document = cast("dict[str, Piece]", yaml.safe_load(path.read_text("utf-8")))
        defaults = cast("dict[str, Piece]", document.get("defaults", {}))
        for entry in cast("list[dict[str, Piece]]", document["cases"]):
            for case_id, description in _expanded(str(document["group"]), {**defaults, **entry}):
                cases.append(Case(case_id, len(cases), description))
    if len({case.id for case in cases}) != len(cases):
        raise ValueError("two cases of the corpus have the same name")
    return cases
