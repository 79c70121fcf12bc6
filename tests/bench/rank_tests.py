"""Whether times of one kind are longer than those of another, whatever their distribution.

It is asked by the signed-rank test (F. Wilcoxon, "Individual comparisons by ranking methods", 1945)
and the U test (H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is
stochastically larger than the other", 1947), both two-sided and with the normal approximation.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Comparison:
    """What times say beside others that were taken in the same rounds."""

    median: float
    difference: float
    """The median of the differences within rounds."""
    signed_rank_p: float
    auc: float
    """How often one of them is longer than one of the others; 0.5 tells nothing."""
    u_p: float


def compare(own: Sequence[float], others: Sequence[float]) -> Comparison:
    """Compare times, those of the same round in the same place."""
    differences = [mine - other for mine, other in zip(own, others, strict=True)]
    pairs = [each for each in differences if each]
    ranks = _ranks([abs(each) for each in pairs])
    positive = sum(rank for rank, each in zip(ranks, pairs, strict=True) if each > 0)
    size = len(pairs)
    signed_rank_p = _two_sided(
        positive - size * (size + 1) / 4, size * (size + 1) * (2 * size + 1) / 24
    )
    mine, theirs = len(own), len(others)
    u = sum(_ranks([*own, *others])[:mine]) - mine * (mine + 1) / 2
    u_p = _two_sided(u - mine * theirs / 2, mine * theirs * (mine + theirs + 1) / 12)
    difference = statistics.median(differences)
    return Comparison(statistics.median(own), difference, signed_rank_p, u / mine / theirs, u_p)


def _ranks(values: Sequence[float]) -> list[float]:
    """The place of each value in their order from 1 on; equal ones share the mean of theirs."""
    ranks = [0.0] * len(values)
    place = 0
    for _, group in groupby(sorted(range(len(values)), key=values.__getitem__), values.__getitem__):
        equal = list(group)
        for index in equal:
            ranks[index] = place + (len(equal) + 1) / 2
        place += len(equal)
    return ranks


def _two_sided(distance: float, variance: float) -> float:
    """How likely so far from the mean is, if nothing but chance is at work."""
    return math.erfc(abs(distance) / math.sqrt(2 * variance)) if variance else 1.0
