"""The hostile corpus: reads `corpus/*.yaml` and turns each description into bytes.

A file is a mapping with `group`, optional `defaults` for its cases, and `cases`. A case has a
`name` and either `raw` (the whole request) or `method`, `target`, `headers` and `body`, each made
of pieces (see pieces.py). The rest of its keys:

    as: user | admin        adds that person's Authorization
    expect                  a status, a class, `closed`, or a list; [4xx, closed] unless told
    answers: n              that many answers, and time to see that there is not one more
    statuses                the status of each of several answers, in their order
    json                    what the answer's body has to hold, among other things
    forbid                  texts that neither answer nor log may hold, besides the canary
    echoes: true            the answer may repeat what was sent, as that of a change does
    within                  seconds until the answer; 8 unless told
    length: false           no Content-Length is added; head: true: answers have no body
    one_byte, slices, pause, half_close, linger, deadline   see wire.Delivery

`vary: {NAME: values}` makes one case of each value (of each combination, with several names) and
puts it in the place of `$NAME`; values are a list, a mapping of label → value, or
`{$range: [start, stop]}`. `$CANARY`, `$TOKEN`, `$ADMIN_TOKEN`, `$USER_ID`, `$ADMIN_ID`,
`$GENERATION`, `$ADDRESS` and `$PORT` are filled in when the request is sent.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from tests.faults.http1.wire import Delivery
from tests.faults.pieces import Piece, render, settle, substitute

CORPUS = Path(__file__).parent / "corpus"
KEYS = frozenset({
    "name", "raw", "method", "target", "headers", "body", "as", "length", "head", "vary",
    "expect", "answers", "statuses", "json", "forbid", "echoes", "within",
    "one_byte", "slices", "pause", "half_close", "linger", "deadline",
})  # fmt: skip
CLOSED = "closed"
DEADLINE = 20.0
LINGER = 0.3
WITHIN = 8.0


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
        several = not how.keys().isdisjoint({"answers", "statuses"})
        return Delivery(
            one_byte=bool(how.get("one_byte", False)),
            slices=tuple(cast("list[int]", how.get("slices", []))),
            pause=float(cast("float", how.get("pause", 0.0))),
            half_close=bool(how.get("half_close", False)),
            linger=float(cast("float", how.get("linger", LINGER if several else 0.0))),
            deadline=float(cast("float", how.get("deadline", DEADLINE))),
        )

    @property
    def json(self) -> Piece:
        """What the body of the answer has to hold, or None."""
        return settle(substitute(self.description.get("json"), {"CANARY": self.canary}))

    @property
    def within(self) -> float:
        """Seconds that the exchange may take, waiting on our side not counted."""
        return float(cast("float", self.description.get("within", WITHIN)))

    @property
    def answers(self) -> int:
        """How many answers the bytes deserve."""
        return int(cast("int", self.description.get("answers", len(self.statuses) or 1)))

    @property
    def statuses(self) -> tuple[int, ...]:
        """The status of each answer, where there are several and that matters."""
        return tuple(cast("list[int]", self.description.get("statuses", [])))

    @property
    def echoes(self) -> bool:
        """Whether the answer may repeat what was sent, as that of a change does."""
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
        document = cast("dict[str, Piece]", yaml.load(path.read_text("utf-8"), yaml.CSafeLoader))
        defaults = cast("dict[str, Piece]", document.get("defaults", {}))
        for entry in cast("list[dict[str, Piece]]", document["cases"]):
            for case_id, description in _expanded(str(document["group"]), {**defaults, **entry}):
                cases.append(Case(case_id, len(cases), description))
    if len({case.id for case in cases}) != len(cases):
        raise ValueError("two cases of the corpus have the same name")
    return cases
