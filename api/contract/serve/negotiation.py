"""Content negotiation (RFC 9110, section 12.5.1).

The `Accept` header is parsed in one linear pass and up to a reasonable length, because anyone can
send it before authentication. Parameters other than the weight are ignored, because no operation
has two representations that differ in them.
"""

import re

from api.contract.compile.problem_responses import PROBLEM_MEDIA_TYPE

_READ_TO = 1024
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def choose(accept: str, available: tuple[str, ...]) -> str | None:
    """Return the preferred media type, the first among equals; None if none is acceptable.

    A client without an `Accept` header accepts anything. So does one whose list is empty, or names
    only the media type of errors, as generated clients do if the success is not JSON.
    """
    if not accept or accept == "*/*":
        return available[0]
    weights: dict[str, float] = {}
    for item in filter(str.strip, accept[:_READ_TO].split(",")):
        media_range, *parameters = (part.strip().lower() for part in item.split(";"))
        weights[media_range] = max(_weight(parameters), weights.get(media_range, 0.0))

    if not weights or (weights.get(PROBLEM_MEDIA_TYPE) and len(weights) == 1):
        return available[0]

    def weight(media_type: str) -> float:
        family = f"{media_type.partition('/')[0]}/*"
        return weights.get(media_type, weights.get(family, weights.get("*/*", 0.0)))

    best = max(available, key=weight)
    return best if weight(best) > 0 else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            return float(value) if _QUALITY.fullmatch(value) else 0.0
    return 1.0
