"""Plots of the simulation as SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from tests.bench.figures import Spread
from tests.bench.plot import svg
from tests.bench.report import Row

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 300, 60, 40


def lines(found: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw lines of milliseconds by a number, both axes logarithmic."""
    return svg(
        [
            Row(what=what, unit="ms", value=Spread.of([y for _, y in points]), points=points)
            for what, points in found.items()
        ]
    )


def over_time(what: str, points: Sequence[tuple[float, float]], marked: float) -> str:
    """Draw a rate over seconds, from zero, with a line at a time."""
    first, last = points[0][0], points[-1][0]
    most = 1.1 * max(y for _, y in points)

    def x(at: float) -> float:
        return round(_LEFT + (at - first) / (last - first) * (_WIDTH - _LEFT - 20), 1)

    def y(rate: float) -> float:
        return round((1 - rate / most) * (_HEIGHT - _BOTTOM - 20) + 20, 1)

    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<path d="M{x(marked)} 20V{y(0)}" stroke="#c8553d" stroke-dasharray="4"/>',
        f'<text x="{_LEFT}" y="14" fill="#1b6ca8">{escape(what)}</text>',
    ]
    for fifth in range(6):
        rate, at = most * fifth / 5, first + (last - first) * fifth / 5
        parts += [
            f'<path d="M{_LEFT} {y(rate)}H{_WIDTH - 20}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{y(rate) + 4}" text-anchor="end">{rate:.0f}</text>',
            f'<text x="{x(at)}" y="{_HEIGHT - 20}" text-anchor="middle">{at:.0f} s</text>',
        ]
    line = " ".join(f"{x(at)},{y(rate)}" for at, rate in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1b6ca8" stroke-width="2"/>')
    return "\n".join((*parts, "</svg>", ""))
