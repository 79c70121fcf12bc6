"""Rules for patterns: they cover the whole text and run in linear time in every engine."""

import re
from collections.abc import Callable, Iterator

import jsonschema_rs

from api.contract.compile.schemas import SchemaNode, resolve
from tests.contract.walk import Finding, operations, schemas, schemas_sent

# The second is ours: what the names in a map match.
_KEYS = ("pattern", "x-property-names")


def patterns_are_anchored(bundle: SchemaNode) -> Iterator[Finding]:
    for place, pattern in _patterns(bundle):
        outline = _outline(pattern)
        if not re.fullmatch(r"\^[^^$]*\$", outline):
            yield Finding(place, "has a pattern that is not anchored at both ends")
        if "|" in _without_groups(outline):
            yield Finding(place, "has a pattern whose anchors belong to one alternative only")


def patterns_are_linear(bundle: SchemaNode) -> Iterator[Finding]:
    """Rust's engine is linear by construction, and takes nothing that could not be.

    Clients have engines that go back. Those need exponential time when what is repeated repeats.
    """
    for place, pattern in _patterns(bundle):
        try:
            jsonschema_rs.Draft202012Validator(
                {"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions()
            )
        except jsonschema_rs.ValidationError:
            yield Finding(place, "has a pattern that cannot be matched in linear time")
        else:
            if _repeats_a_repetition(_outline(pattern)):
                yield Finding(place, "has a pattern that repeats an unbounded repetition")


def patterns_have_messages(bundle: SchemaNode) -> Iterator[Finding]:
    """`x-message` says what is wrong with what a client sent, which a pattern says to few."""
    taken = [
        (f"parameter {parameter['name']}", resolve(bundle, parameter["schema"]))
        for operation in operations(bundle)
        for parameter in operation.parameters
        if parameter["in"] != "path"  # No text makes a resource of those that do not match.
    ]
    for place, schema in [*schemas_sent(bundle, by_client=True), *taken]:
        message = str(schema.get("x-message", ""))
        if any(key in schema for key in _KEYS) is not bool(message):
            yield Finding(place, "has a pattern without x-message, or x-message without a pattern")
        elif message and not re.fullmatch("must [ -~]{1,100}[^.]", message):
            yield Finding(place, "has an x-message that is not like `must be two letters`")


def _patterns(bundle: SchemaNode) -> Iterator[tuple[str, str]]:
    for place, schema in schemas(bundle):
        yield from ((place, str(schema[key])) for key in _KEYS if key in schema)


def _outline(pattern: str) -> str:
    """Return the pattern's groups, alternatives, anchors and repetitions.

    Each character and class becomes `x`, and a bounded repetition `#`.
    """
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern)
    counted = re.sub(r"\{(\d+)(,\d*)?\}", lambda found: "+" if found[2] == "," else "#", plain)
    return re.sub(r"[^()|*+?#^$]", "x", counted.replace("(?:", "("))


def _without_groups(outline: str, mark: Callable[[str], str] = lambda _: "x") -> str:
    """Return an outline with one character, made by `mark`, for each of its outermost groups."""
    while group := re.search(r"\(([^()]*)\)", outline):
        outline = outline[: group.start()] + mark(group[1]) + outline[group.end() :]
    return outline


def _nesting(outline: str) -> str:
    """Return `R` if a repetition repeats another in a group, `U` if one has no end, else `x`."""
    if re.search(r"R|U[*+#]", outline):
        return "R"
    return "U" if re.search(r"[*+U]", outline) else "x"


def _repeats_a_repetition(outline: str) -> bool:
    return _nesting(_without_groups(outline, _nesting)) == "R"
