"""Plots of the simulation as SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from tests.bench.figures import Spread
from tests.bench.plot import COLOURS, svg
from tests.bench.report import Row

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 300, 60, 40, 40


def lines(found: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw lines of milliseconds by a number, both axes logarithmic."""
    return svg(
        [
            Row(what=what, unit="ms", value=Spread.of([y for _, y in points]), points=points)
            for what, points in found.items()
        ]
    )


def over(
    found: Mapping[str, Sequence[tuple[float, float]]], unit: str, marked: float | None = None
) -> str:
    """Draw lines over something of a unit, from zero up, with a mark at a place of it."""
    first = min(x for points in found.values() for x, _ in points)
    last = max(x for points in found.values() for x, _ in points)
    most = 1.1 * max(y for points in found.values() for _, y in points)
    digits = 0 if most > 10 else 1

    def across(x: float) -> float:
        return round(_LEFT + (x - first) / (last - first) * (_WIDTH - _LEFT - 20), 1)

    def up(y: float) -> float:
        return round((1 - y / most) * (_HEIGHT - _BOTTOM - _TOP) + _TOP, 1)

    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    if marked is not None:
        x = across(marked)
        parts.append(f'<path d="M{x} {_TOP}V{up(0)}" stroke="#888" stroke-dasharray="4"/>')
    for fifth in range(6):
        y, x = most * fifth / 5, first + (last - first) * fifth / 5
        parts += [
            f'<path d="M{_LEFT} {up(y)}H{_WIDTH - 20}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{up(y) + 4}" text-anchor="end">{y:.{digits}f}</text>',
            f'<text x="{across(x)}" y="{_HEIGHT - 20}" text-anchor="middle">{x:.0f} {unit}</text>',
        ]
    for place, (what, points) in enumerate(found.items()):
        colour = COLOURS[place]
        line = " ".join(f"{across(x)},{up(y)}" for x, y in points)
        parts += [
            f'<text x="{_LEFT}" y="{14 + 14 * place}" fill="{colour}">{escape(what)}</text>',
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
        ]
    return "\n".join((*parts, "</svg>", ""))
