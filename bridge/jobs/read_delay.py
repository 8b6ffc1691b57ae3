"""The pause before a bridge of a group reads the jobs that others have changed. Pure.

All bridges get the notice of a new job at the same moment. If all of them read it at once, each one
with an idle ComfyUI would claim it, and all but one would have waited for that job's client's lock
in vain. So each waits a random moment: the first to read the job claims it, and its notice reaches
most of the others before they read.
"""

from __future__ import annotations

# After a read the next one is not at once: many jobs share a read.
GATHER_S = 0.1
# For each other bridge. A claim and its notice take half of that; with a fifth of it, a hundred
# bridges wait for one another more than they work (docs/scale.md).
SPREAD_S = 0.01


def read_delay_s(since_last_s: float, others: int, chance: float) -> float:
    """Return how long to wait before the next read, in seconds; `chance` is from 0 to 1.

    `since_last_s` is how long ago the last read ended, `others` the number of other bridges.
    """
    return max(0.0, GATHER_S - since_last_s) + SPREAD_S * others * chance
