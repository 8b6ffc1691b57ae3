"""A log-log plot of rows that have points, as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.bench.report import Row, amount

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 20, 20, 90
COLOURS = ("#1b6ca8", "#c8553d", "#2a9d5c", "#8e5aa8")


class _Scale:
    """Places values on an axis, whole decades from end to end."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values))))
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)

    @property
    def decades(self) -> list[float]:
        return [10.0**each for each in range(self._low, self._high + 1)]


def svg(rows: Sequence[Row]) -> str:
    """Draw each row's points as a line; a flat one is a cost that does not grow."""
    points = [point for row in rows for point in row.points]
    across = _Scale([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Scale([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for decade in across.decades:
        x = across.at(decade)
        parts += [
            f'<path d="M{x} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>',
            f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{decade:g}</text>',
        ]
    for decade in up.decades:
        y = up.at(decade)
        parts += [
            f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{amount(decade, "ms")}</text>',
        ]
    for index, row in enumerate(rows):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(f"{across.at(x)},{up.at(y)}" for x, y in row.points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across.at(x)}" cy="{up.at(y)}" r="3" fill="{colour}"/>'
            for x, y in row.points
        ]
        y = _HEIGHT - _BOTTOM + 36 + 14 * index
        parts.append(f'<text x="{_LEFT}" y="{y}" fill="{colour}">{escape(row.what)}</text>')
    return "\n".join((*parts, "</svg>", ""))
