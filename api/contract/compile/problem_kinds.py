"""Kinds of error (RFC 9457, section 4), one file each in the contract's folder `problems/`.

A file gives a kind's status, title, texts and example, and the headers, members and links that its
problems have beyond the common ones. Operations list their own kinds in `x-problems`. A kind that
follows from some other declaration names that declaration in `implied-by`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from api.contract.compile.schemas import SchemaNode, resolve
from api.contract.engine_errors import ContractError

PROBLEMS: Final = "x-engine-problems"
"""The bundle's key for the kinds of error, which it maps from their names."""

CONDITIONS: Final = frozenset(
    {
        "operation",
        "security",
        "path-parameter",
        "request-body",
        "response-body",
        "rate-limit",
        "if-match",
        "idempotency-key",
        "thread-pool",
        "server",
    }
)
"""The values of `implied-by`: the declaration that makes the kind one of an operation's kinds.

`operation` means every operation, and `thread-pool` every operation that is not run inline.
`server` means none: such a problem is sent before an operation is matched.
"""

_TEXTS = ("title", "meaning", "when_sent", "what_to_do")
_REQUIRED = {"status", *_TEXTS, "example"}
_OPTIONAL = {"implied-by", "headers", "links", "members"}


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of error as clients see it; `slug` is the `code` of its problems."""

    slug: str
    status: int
    title: str
    meaning: str
    when_sent: str
    what_to_do: str


def compile_kinds(bundle: SchemaNode) -> Mapping[str, ProblemKind]:
    """Return the kinds of error by name, sorted by status."""
    kinds = [
        ProblemKind(slug, node["status"], *(node[text] for text in _TEXTS))
        for slug, node in bundle[PROBLEMS].items()
    ]
    return {kind.slug: kind for kind in sorted(kinds, key=lambda kind: (kind.status, kind.slug))}


def list_codes(bundle: SchemaNode) -> None:
    """Make the schema of a problem's `code` an enum of all kinds, if there are any."""
    if bundle[PROBLEMS]:
        problem = bundle["components"]["schemas"]["Problem"]
        codes = sorted(bundle[PROBLEMS])
        # Without names, generated clients call `email-taken` EMAIL_MINUS_TAKEN.
        names = [code.replace("-", "_").upper() for code in codes]
        resolve(bundle, problem["properties"]["code"]).update(
            {"enum": codes, "x-enum-varnames": names}
        )


def check_kind(file: str, node: SchemaNode) -> None:
    """Check the file of a kind of error.

    Raises:
        ContractError: a key or text is missing, unknown or invalid.
    """
    for key in sorted(_REQUIRED - set(node)):
        raise ContractError(file, f"/{key}", "is missing")
    for key in node:
        if key not in _REQUIRED | _OPTIONAL:
            raise ContractError(file, f"/{key}", "is not a key of a kind of error")
    for key in _TEXTS:
        if not isinstance(node[key], str) or not node[key]:
            raise ContractError(file, f"/{key}", "is not a text")
    if node["status"] not in range(400, 600):
        raise ContractError(file, "/status", "is not a status from 400 to 599")
    if node.get("implied-by", "server") not in CONDITIONS:
        known = ", ".join(sorted(CONDITIONS))
        raise ContractError(file, "/implied-by", f"is not one of {known}")
    for key in ("headers", "links", "members"):
        if not isinstance(node.get(key, {}), dict):
            raise ContractError(file, f"/{key}", "is not a mapping")
    _check_example(file, node)


def _check_example(file: str, node: SchemaNode) -> None:
    example = node["example"]
    if not isinstance(example, dict) or set(example) != {"summary", "value"}:
        raise ContractError(file, "/example", "is not a mapping of summary and value")
    shown, declared = set(example["value"]), {"detail", *node.get("members", {})}
    for name in sorted(shown ^ declared):
        reason = "is not declared in members" if name in shown else "is not shown"
        raise ContractError(file, f"/example/value/{name}", reason)
