"""Figures from measured values: percentiles, medians over rounds, ratios.

Pure. A round is one pass over all sides of a comparison. Each round gives one ratio, taken between
neighbours in time; a figure of the table is the median of its rounds, its spread their extremes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from msgspec import Struct


class Spread(Struct, frozen=True):
    """A median over rounds, and the extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise one value a round. Raises ValueError for none."""
        if not values:
            raise ValueError("no round has a value")
        return cls(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the values lie, between two of them if need be.

    Raises ValueError for no values, or a percent outside 0 to 100.
    """
    if not values:
        raise ValueError("no values")
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} is no percentage")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def p50(values: Sequence[float]) -> float:
    """Return the median."""
    return percentile(values, 50)


def p95(values: Sequence[float]) -> float:
    """Return what 19 of 20 values do not exceed."""
    return percentile(values, 95)


def p99(values: Sequence[float]) -> float:
    """Return what 99 of 100 values do not exceed."""
    return percentile(values, 99)


def tail(values: Sequence[float]) -> float:
    """Return how long the tail is: p95 in units of p50."""
    return p95(values) / p50(values)


class Comparison(Struct, frozen=True):
    """A figure of the bridge, the same of the reference, and their ratio, each over the rounds."""

    value: Spread
    reference: Spread
    ratio: Spread


def compare(
    rounds: Sequence[Sequence[float]],
    references: Sequence[Sequence[float]],
    figure: Callable[[Sequence[float]], float],
) -> Comparison:
    """Take a figure of each round's values on both sides, and the ratio round by round."""
    values = [figure(each) for each in rounds]
    beside = [figure(each) for each in references]
    ratios = [value / reference for value, reference in zip(values, beside, strict=True)]
    return Comparison(Spread.of(values), Spread.of(beside), Spread.of(ratios))
