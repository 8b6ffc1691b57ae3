"""The siege's figures, and the table that they make. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

# An honest client's slowest twentieth may take so many times what it takes without the bridge's
# part: alone, or beside the same flood to topics of nobody, which the machine and the broker bear.
MOST_RATIO = 2.0
# Bytes; what a flood may leave behind in the bridge.
MOST_GROWTH = 64 * 1024 * 1024

_BEGIN, _END = "<!-- siege -->", "<!-- end of siege -->"


class Finding(Struct, frozen=True):
    """One flood: honest round trips in seconds, alone and meanwhile; and the bridge's memory.

    `past` are those beside the same flood to topics of nobody, None where there was none; `sent` is
    what the flood counted; `before`, `highest` and `after` are resident bytes.
    """

    flood: str
    sent: str
    alone: Sequence[float]
    past: Sequence[float] | None
    meanwhile: Sequence[float]
    before: int
    highest: int
    after: int

    @property
    def ratio(self) -> float:
        """The factor by which the slowest twentieth takes longer than without the bridge's part."""
        past = p95(self.past) if self.past else 0.0
        return p95(self.meanwhile) / max(p95(self.alone), past)

    @property
    def served(self) -> bool:
        """True if the honest client was served in time."""
        return self.ratio <= MOST_RATIO

    @property
    def kept(self) -> bool:
        """True if the flood left memory behind."""
        return self.after - self.before > MOST_GROWTH

    @property
    def held(self) -> bool:
        """True if the honest client was served and nothing was kept."""
        return self.served and not self.kept


def p95(seconds: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed. Infinity for none: nobody was served."""
    if not seconds:
        return math.inf
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as Markdown."""
    lines = [
        "| flood, by one client | sent | alone | past bridge | meanwhile | ratio | memory | left |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in findings:
        megabytes = [(size - each.before) / 2**20 for size in (each.highest, each.after)]
        past = "" if each.past is None else f"{p95(each.past) * 1000:.1f} ms "
        lines.append(
            f"| {each.flood} | {each.sent} | {p95(each.alone) * 1000:.1f} ms | {past}"
            f"| {p95(each.meanwhile) * 1000:.1f} ms | {each.ratio:.1f} "
            f"| {megabytes[0]:+.0f} MB | {megabytes[1]:+.0f} MB |"
        )
    return "\n".join(lines) + "\n"


def put(document: str, about: str) -> str:
    """Put the table in a document's place for it. Raises ValueError where there is none."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"no {_BEGIN} and {_END} in it")
    return f"{before}{begin}\n\n{about}\n{end}{after}"
