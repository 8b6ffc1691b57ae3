"""The pause before a bridge of a group looks at the jobs that others have changed. Pure.

All bridges get the notice of a new job at the same moment. If all of them looked at once, each one
with an idle ComfyUI would claim it, and all but one would have waited for that job's client's lock
in vain. So each waits a moment, by chance: the first to look claims the job, and says so before
most of the others have looked.
"""

from __future__ import annotations

# After a look the next one is not at once: many jobs share a read.
GATHER_S = 0.1
# For each other bridge. A claim and its notice take half of that; with a fifth of it, a hundred
# bridges wait for one another more than they work (docs/scale.md).
SPREAD_S = 0.01


def look_delay_s(since_last_s: float, others: int, chance: float) -> float:
    """Return how long to wait before a look, in seconds; `chance` is from 0 to 1.

    `since_last_s`: how long ago the last look ended.
    """
    return max(0.0, GATHER_S - since_last_s) + SPREAD_S * others * chance
