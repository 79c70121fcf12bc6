"""Division: the simplest operation, for trying out the service."""

import math

from models.errors import ImpossibleDivision


def divide(a: float, b: float) -> dict[str, float]:
    """Divide `a` by `b` in double precision (IEEE 754)."""
    if b == 0:
        raise ImpossibleDivision("A number cannot be divided by zero.")
    result = a / b
    if not math.isfinite(result):
        raise ImpossibleDivision("The quotient is beyond the range of a double.")
    return {"result": result}
